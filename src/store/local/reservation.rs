//! Reservations of a local store: the engine's calls for costs that are known only afterwards.

use std::fmt;
use std::time::Duration;

use super::calls::LocalLimits;
use super::hold::LocalHold;
use crate::decision::{Charge, Decision};
use crate::engine::Limit;
use crate::quota::RateLimit;
use crate::store::budget::Hold;
use crate::store::commit::Commit;
use crate::strategy::Absolute;

/// Reserved units of one key in this process; see [`LocalLimits::reserve`].
///
/// Dropping it keeps the units that were [spent](Self::spend), and frees the rest.
#[must_use = "dropping a reservation frees its units"]
pub struct LocalReservation {
    limit: Limit,
    hold: LocalHold,
    decision: Decision,
    units: u64,
    spent: u64,
}

impl LocalLimits<'_, Absolute> {
    /// Reserves `n` units, all or none, for a cost that is known only afterwards.
    ///
    /// The units count from now on, so other requests cannot use them. [`spend`](LocalReservation::spend) declares
    /// units before they are used, and [`commit`](LocalReservation::commit) ends the reservation with the real cost. A
    /// spent unit counts for a window from the instant at which it was spent. So no window exceeds the limit, however
    /// long the work takes.
    ///
    /// Units can be spent for `ttl`. A reservation that is leaked frees its units a window after it last spent one.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let (tokens, rate) = (rl.local().absolute(), RateLimit::try_from(100.0)?); // 6000 in any minute
    /// let mut answer = tokens.reserve("alice", &rate, 500, Duration::from_secs(30));
    /// assert!(answer.is_granted());
    /// while answer.spend(20) {
    ///     // produce 20 tokens of the answer
    /// #   if answer.left() < 300 { break }
    /// }
    /// drop(answer);
    /// assert_eq!(tokens.get("alice"), 220);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn reserve(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64, ttl: Duration) -> LocalReservation {
        self.reserve_units(key.as_ref(), rate, n, ttl, false)
    }

    /// Reserves as many of `n` units as fit; see [`reserve`](Self::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let (tokens, rate) = (rl.local().absolute(), RateLimit::try_from(1.0)?); // 60 in any minute
    /// let answer = tokens.reserve_up_to("alice", &rate, 500, Duration::from_secs(30));
    /// assert_eq!(answer.units(), 60);
    /// assert_eq!(answer.commit(45).charged, 45);
    /// assert_eq!(tokens.get("alice"), 45);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn reserve_up_to(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64, ttl: Duration) -> LocalReservation {
        self.reserve_units(key.as_ref(), rate, n, ttl, true)
    }

    fn reserve_units(&self, key: &[u8], rate: &RateLimit, n: u64, ttl: Duration, is_partial: bool) -> LocalReservation {
        let (windows, limit) = (self.windows, self.windows.geometry.limit(rate, false));
        let (decision, units) = windows.reserve(&windows.main, key, n, &[limit], is_partial);
        let tick = match decision.charge {
            Charge::Window { tick, .. } => tick,
            _ => 0,
        };
        let hold = LocalHold::new(windows, &windows.main, key, (tick, units), ttl);
        LocalReservation { limit, hold, decision, units, spent: 0 }
    }
}

impl LocalReservation {
    /// Whether units were reserved, or none were asked for.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.decision.is_allowed()
    }

    /// The reserved units.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// The decision. If no unit was reserved, its wait is the time until all units that were asked for fit.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The units that are not spent.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.hold.left()
    }

    /// Declares that units are used now; call it before using them.
    ///
    /// Returns false, and spends none, if fewer units are left, or if the reservation's time is over.
    pub fn spend(&mut self, units: u64) -> bool {
        let is_spent = self.hold.spend(units);
        self.spent += if is_spent { units } else { 0 };
        is_spent
    }

    /// Ends the reservation with the units that were used in all, including those that were spent.
    ///
    /// The rest of the reservation is free again. Units above it are decided like a new request, all or none. So are
    /// units that were not spent in time. Spent units stay charged, even if `actual` is lower.
    pub fn commit(mut self, actual: u64) -> Commit {
        let kept = actual.saturating_sub(self.spent).min(self.left());
        self.spend(kept);
        let more = actual.saturating_sub(self.spent);
        self.hold.free();
        let raise = (more > 0).then(|| self.hold.decide(more, self.limit));
        Commit::new(self.spent, more, raise)
    }
}

impl fmt::Debug for LocalReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReservation")
            .field("units", &self.units)
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}

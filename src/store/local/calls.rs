//! The engine's calls on a local store.

use std::fmt;
use std::marker::PhantomData;

use crate::correction::{HistoryPreservation, RateLimitComparator, SetOutcome};
use crate::decision::{Decision, RateLimitDecision, SuppressionSnapshot};
use crate::engine::{self, SetMode};
use crate::keyspace::Windows;
use crate::quota::RateLimit;
use crate::strategy::{Absolute, StrategyKind, Suppressed};

/// Limits in this process, with one strategy.
///
/// A key is any sequence of bytes. The rate is an argument of each call and applies to the key's existing history.
/// Costs are in units.
///
/// A call with a new key sometimes also cleans up about 800 keys. No call does more, or waits for longer than one such
/// step of another call.
#[must_use]
pub struct LocalLimits<'a, K> {
    pub(super) windows: &'a Windows,
    kind: PhantomData<K>,
}

impl<'a, K: StrategyKind> LocalLimits<'a, K> {
    #[inline]
    pub(super) fn new(windows: &'a Windows) -> Self {
        Self { windows, kind: PhantomData }
    }

    /// Asks for `n` units and charges them if they are admitted, all or none.
    ///
    /// With `n` = 0 it charges nothing and changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimit, RateLimitDecision, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let rate = RateLimit::try_from(10.0)?; // 600 in any minute
    /// assert_eq!(rl.local().absolute().inc("job", &rate, 600), RateLimitDecision::Allowed);
    /// let refused = rl.local().absolute().inc("job", &rate, 1);
    /// assert!(refused.retry_after().is_some_and(|wait| wait.as_secs() >= 59));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[inline]
    pub fn inc(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> RateLimitDecision {
        match K::IS_SUPPRESSED {
            false => self.windows.inc_absolute(key.as_ref(), rate, n),
            true => self.windows.inc_suppressed(key.as_ref(), rate, n),
        }
    }

    /// Like [`inc`](Self::inc), but returns all figures of the decision.
    #[inline]
    pub fn decide(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Decision {
        let limits = [self.windows.geometry.limit(rate, K::IS_SUPPRESSED)];
        self.windows.decide(&self.windows.main, key.as_ref(), n, &limits, K::IS_SUPPRESSED)
    }

    /// Returns whether one unit would be admitted, and charges nothing.
    ///
    /// In the band of the suppressed strategy, a request may be admitted or shed. The method then returns `Suppressed
    /// { is_allowed: true, .. }`, because some of these requests are admitted.
    pub fn is_allowed(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> RateLimitDecision {
        self.peek(key.as_ref(), rate, 1)
    }

    fn peek(&self, key: &[u8], rate: &RateLimit, n: u64) -> RateLimitDecision {
        let (windows, now_ms) = (self.windows, self.windows.time.now_ms());
        let (now, limits) = (windows.geometry.at(now_ms), [windows.geometry.limit(rate, K::IS_SUPPRESSED)]);
        windows.main.peek(key, now, |window, horizon| {
            if K::IS_SUPPRESSED {
                return RateLimitDecision::at_factor(engine::factor(window, now, &limits));
            }
            let outcome = engine::absolute(window, now, n, &limits, horizon, false);
            windows.geometry.brief_decision(&outcome, &limits, now_ms)
        })
    }

    /// The units that the key has used in the window. It is 0 for an unknown key.
    ///
    /// While the store is full, unknown keys share budgets. This method does not count those budgets; see
    /// [`Decision::is_overflow`].
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> u64 {
        let now = self.windows.now();
        self.windows.main.peek_own(key.as_ref(), now, |window| window.used(now, self.span()))
    }

    /// Sets the key's total to `count`, dated now, if the comparator holds for the current total.
    ///
    /// The rate is part of the signature that all stores share. The method checks no limit, so `count` may be above
    /// it. It is capped at 2^39. A lower total ends the shedding of the suppressed strategy. A total of 0 forgets the
    /// key, as [`delete`](Self::delete) does.
    ///
    /// The store retains at most `max_keys` keys. If it is full and does not know the key, it sets nothing, and
    /// `matched` is false.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimit, RateLimitComparator, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let rate = RateLimit::try_from(1.0)?;
    /// let outcome = rl.local().absolute().set_if("k", &rate, RateLimitComparator::Lt(40), 40);
    /// assert!(outcome.matched);
    /// assert_eq!((outcome.previous_total, outcome.current_total), (0, 40));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn set_if(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
    ) -> SetOutcome {
        self.set(key.as_ref(), rate, comparator, count, SetMode::Replace { age: 0 })
    }

    /// Like [`set_if`](Self::set_if), but keeps as much of the history as fits into `count`.
    pub fn set_if_preserve_history(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
        which: HistoryPreservation,
    ) -> SetOutcome {
        self.set(key.as_ref(), rate, comparator, count, which.into())
    }

    fn set(
        &self,
        key: &[u8],
        _rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
        mode: SetMode,
    ) -> SetOutcome {
        self.windows.set(&self.windows.main, key, comparator, (count, mode), self.span())
    }

    /// Forgets the key. Returns the units that it had used in the window, or `None` if it was unknown.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Option<u64> {
        let now = self.windows.now();
        self.windows.main.remove(key.as_ref(), |window| window.used(now, self.span()))
    }

    /// Forgets every key of the engine's calls. The limits that layers opened keep their keys.
    pub fn clear(&self) {
        self.windows.main.clear();
    }

    fn span(&self) -> u32 {
        self.windows.geometry.span()
    }
}

impl LocalLimits<'_, Absolute> {
    /// Returns whether `n` units would be admitted now, and charges nothing.
    ///
    /// Another request may take the units before your next call.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let (calls, rate) = (rl.local().absolute(), RateLimit::try_from(1.0)?); // 60 in any minute
    /// assert!(calls.would_allow("k", &rate, 60).is_allowed());
    /// assert!(!calls.would_allow("k", &rate, 61).is_allowed());
    /// assert_eq!(calls.get("k"), 0);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn would_allow(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> RateLimitDecision {
        self.peek(key.as_ref(), rate, n)
    }
}

impl LocalLimits<'_, Suppressed> {
    /// The part of the demand that would be shed now: 0 below the limit, and 1 at the hard cap.
    #[must_use]
    pub fn get_suppression_factor(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> f64 {
        let (now, limits) = (self.windows.now(), [self.windows.geometry.limit(rate, true)]);
        self.windows.main.peek(key.as_ref(), now, |window, _| engine::factor(window, now, &limits))
    }

    /// The requested units and the shed units in the window, and the suppression factor, all at one instant.
    ///
    /// This method charges nothing. A request that costs more than the hard cap is not demand and does not count.
    /// While the store is full, an unknown key reports the figures of its shared budget.
    ///
    /// Only the local store has this method. The Redis and hybrid stores report only the factor.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// let rl = RateLimiter::builder().build()?;
    /// let (calls, rate) = (rl.local().suppressed(), RateLimit::try_from(1.0)?); // 60 in any minute
    /// let admitted = (0..100).filter(|_| calls.inc("k", &rate, 1).is_allowed()).count() as u64;
    /// let seen = calls.snapshot("k", &rate);
    /// assert_eq!((seen.observed, seen.declined), (100, 100 - admitted));
    /// assert_eq!(seen.factor, calls.get_suppression_factor("k", &rate));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> SuppressionSnapshot {
        let (now, limits) = (self.windows.now(), [self.windows.geometry.limit(rate, true)]);
        self.windows.main.peek(key.as_ref(), now, |window, _| {
            let (declined, factor) = engine::pressure(window, now, &limits);
            let admitted = window.used(now, self.span());
            SuppressionSnapshot { observed: admitted.saturating_add(declined), declined, factor }
        })
    }
}

impl<K> Clone for LocalLimits<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for LocalLimits<'_, K> {}

impl<K> fmt::Debug for LocalLimits<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimits").finish_non_exhaustive()
    }
}

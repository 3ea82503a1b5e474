//! The local store: the windows of many keys, in this process.
//!
//! A decision is one clock read, one fingerprint and one lookup; check and charge are one step under the
//! key's lock. Nothing of the key is stored and nothing is allocated once a key is known.

mod handle;
mod janitor;
mod overflow;
#[cfg(feature = "_redis")]
mod share;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use self::table::{Place, Table};
use crate::decision::Decision;
use crate::engine::{self, Horizon, Limit, Outcome, Window};
use crate::error::ConfigError;
use crate::names::Names;
use crate::quota::HardLimitFactor;
use crate::scale::Scale;
use crate::store::{Answer, Ask, Budget, Policy, Store, Strategy};
use crate::strategy::{Absolute, Suppressed};
use crate::time::TimeSource;

pub use self::handle::LocalLimits;
#[cfg(feature = "_redis")]
pub(crate) use self::share::Share;

/// A local store: the engine's in-process limits, and a store for layers. Cloning shares it.
///
/// See [`RateLimiter::local`](crate::RateLimiter::local).
#[derive(Clone)]
pub struct Local(Arc<Shared>);

/// What the handles of one store share.
struct Shared {
    time: TimeSource,
    scale: Scale,
    max_keys: usize,
    /// The keys of the engine's own calls.
    main: Arc<Table>,
    /// The keys of the limits that layers opened.
    named: Names<Table>,
}

/// What a local store is made from.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) time: TimeSource,
    pub(crate) bucket_ms: u64,
    pub(crate) window_seconds: u64,
    pub(crate) hard: HardLimitFactor,
    pub(crate) max_keys: usize,
}

impl Local {
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let Settings { time, bucket_ms, window_seconds, hard, max_keys } = settings;
        if max_keys == 0 {
            return Err(ConfigError::ZeroMaxKeys);
        }
        let scale = Scale::new(bucket_ms, time.lag_ms(), window_seconds, hard)?;
        scale.check_bucket(window_seconds.saturating_mul(1_000));
        let main = Table::new(max_keys);
        main.horizon().widen(&[scale.span()]);
        let named = Names::new(time.clone());
        Ok(Self(Arc::new(Shared { time, scale, max_keys, main: Arc::new(main), named })))
    }

    /// Requests decided by the absolute strategy: what fits is admitted, the rest rejected.
    #[inline]
    pub fn absolute(&self) -> LocalLimits<'_, Absolute> {
        LocalLimits::new(&self.0)
    }

    /// Requests decided by the suppressed strategy: an overload is thinned smoothly.
    ///
    /// It shares the histories of [`absolute`](Self::absolute): a key's units count for both.
    #[inline]
    pub fn suppressed(&self) -> LocalLimits<'_, Suppressed> {
        LocalLimits::new(&self.0)
    }

    /// The number of keys that the store remembers, over all limits.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.tables().iter().map(|table| table.len()).sum()
    }

    pub(crate) fn start_cleanup(&self) {
        janitor::start(&Arc::downgrade(&self.0));
    }

    pub(crate) fn stop_cleanup(&self) {
        janitor::stop(&Arc::downgrade(&self.0));
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("clock", &self.0.time)
            .field("bucket_ms", &self.0.scale.bucket_ms())
            .field("max_keys", &self.0.max_keys)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

impl Store for Local {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = &self.0;
        let limits = shared.scale.limits(policy)?;
        let (table, opened) = shared.named.open(policy, &limits, || Table::new(shared.max_keys))?;
        let (shared, strategy) = (Arc::clone(shared), policy.strategy());
        Ok(Arc::new(LocalBudget { shared, table, limits, strategy, opened }))
    }
}

/// One policy's limits on one of the store's tables.
struct LocalBudget {
    shared: Arc<Shared>,
    table: Arc<Table>,
    limits: Box<[Limit]>,
    strategy: Strategy,
    opened: Arc<Policy>,
}

impl Budget for LocalBudget {
    fn decide(&self, ask: Ask<'_>) -> Answer {
        let suppressed = matches!(self.strategy, Strategy::Suppressed(_));
        Answer::Ready(Ok(self.shared.decide(&self.table, ask.key, ask.cost, &self.limits, suppressed)))
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        self.shared.refund(&self.table, key, cost, decision);
    }
}

impl fmt::Debug for LocalBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

impl Shared {
    /// Decides on a key of one table.
    #[inline]
    fn decide(&self, table: &Table, key: &[u8], cost: u64, limits: &[Limit], suppressed: bool) -> Decision {
        let (outcome, place, now_ms) = self.outcome(table, key, cost, limits, suppressed);
        let decision = self.scale.decision(&outcome, cost, limits, now_ms);
        Decision { is_overflow: place == Place::Shared, ..decision }
    }

    /// Decides on a key of one table; the outcome, whose window it is of, and the instant to which it refers.
    #[inline]
    fn outcome(
        &self,
        table: &Table,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
        suppressed: bool,
    ) -> (Outcome, Place, u64) {
        let now_ms = self.time.now_ms();
        let now = self.scale.at(now_ms);
        let (outcome, place) = if suppressed {
            let random = fastrand::u32(..);
            let decide =
                |window: &mut Window, horizon: &Horizon| engine::suppressed(window, now, cost, limits, horizon, random);
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        } else {
            let decide =
                |window: &mut Window, horizon: &Horizon| engine::absolute(window, now, cost, limits, horizon, true);
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        };
        (outcome, place, now_ms)
    }

    /// Takes back up to `cost` of the units that a decision charged.
    fn refund(&self, table: &Table, key: &[u8], cost: u64, decision: &Decision) {
        let (now, cost) = (self.now(), cost.min(decision.charged));
        if cost > 0 {
            table.settle(key, |window, horizon| {
                window.refund(now, decision.stamp, cost, horizon);
            });
        }
    }

    fn now(&self) -> u64 {
        self.scale.at(self.time.now_ms())
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        std::iter::once(Arc::clone(&self.main)).chain(self.named.all()).collect()
    }

    /// One round of the cleanup loop: a part of every table, and the names that nobody uses.
    fn sweep_round(&self) {
        let now = self.now();
        for table in self.tables() {
            table.sweep_part(now, janitor::ROUNDS_PER_PASS);
        }
        self.named.tidy();
    }
}

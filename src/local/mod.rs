//! The local store: the windows of many keys, in this process.
//!
//! A decision is one clock read, one fingerprint and one lookup; check and charge are one step under the
//! key's lock. Nothing of the key is stored and nothing is allocated once a key is known.

mod fingerprint;
mod handle;
mod janitor;
mod table;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use self::table::Table;
use crate::decision::Decision;
use crate::engine::{self, Horizon, Limit, NEVER, Outcome, Window};
use crate::error::ConfigError;
use crate::quota::{HardLimitFactor, MAX_QUOTAS, Quota, RateLimit};
use crate::store::{Answer, Ask, Budget, Policy, Store, Strategy};
use crate::telemetry::{self, Notice};
use crate::time::{Ticks, TimeSource};

pub use self::handle::{Absolute, LocalLimits, Suppressed};

/// A local store: the engine's in-process limits, and a store for layers. Cloning shares it.
///
/// See [`RateLimiter::local`](crate::RateLimiter::local).
#[derive(Clone)]
pub struct Local(Arc<Shared>);

/// What the handles of one store share.
struct Shared {
    time: TimeSource,
    ticks: Ticks,
    lag_ms: u64,
    lag: u32,
    fifth_of_a_second: u32,
    /// The window of a bare rate, in seconds and in ticks.
    window_seconds: u64,
    window: u32,
    hard: HardLimitFactor,
    max_keys: usize,
    /// The keys of the engine's own calls.
    main: Arc<Table>,
    /// The limits that layers opened, by name; their keys stay when the layer goes, so that one that is built
    /// anew finds its history.
    named: Mutex<HashMap<Arc<str>, Named>>,
}

/// The keys of one limit, and who opened it last.
struct Named {
    table: Arc<Table>,
    last: Weak<LocalBudget>,
}

/// What a local store is made from.
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
        let (ticks, lag_ms) = (Ticks::new(bucket_ms), time.lag_ms());
        let lag = narrow(ticks.covering(lag_ms));
        let window = window_ticks(ticks, lag, window_seconds.saturating_mul(1_000))?;
        let main = Table::new(max_keys);
        main.horizon().widen(&[window + lag]);
        Ok(Self(Arc::new(Shared {
            time,
            ticks,
            lag_ms,
            lag,
            fifth_of_a_second: narrow(ticks.covering(200)),
            window_seconds,
            window,
            hard,
            max_keys,
            main: Arc::new(main),
            named: Mutex::default(),
        })))
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
            .field("bucket_ms", &self.0.ticks.bucket_ms())
            .field("max_keys", &self.0.max_keys)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

impl Store for Local {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = &self.0;
        if policy.quotas().is_empty() {
            return Err(ConfigError::NoQuota);
        }
        if policy.quotas().len() > MAX_QUOTAS {
            return Err(ConfigError::TooManyQuotas { most: MAX_QUOTAS });
        }
        let limit = |quota: &Quota| {
            let window = window_ticks(shared.ticks, shared.lag, quota.window_ms())?;
            let hard = match policy.strategy() {
                Strategy::Absolute => quota.count(),
                Strategy::Suppressed(factor) => factor.cap(quota.count()),
            };
            Ok(shared.limit_over(quota.count(), hard, window))
        };
        let limits = policy.quotas().iter().map(limit).collect::<Result<Box<[_]>, _>>()?;
        let (budget, other) = shared.named(policy, limits)?;
        if let Some(other) = other
            && let Some(case) = budget.confusion(&other, policy)
        {
            telemetry::notify(Notice::LimitOpenedTwice, Some(case));
        }
        Ok(budget)
    }
}

/// One policy's limits on one of the store's tables.
struct LocalBudget {
    shared: Arc<Shared>,
    table: Arc<Table>,
    limits: Box<[Limit]>,
    strategy: Strategy,
}

impl LocalBudget {
    /// What makes it unlikely that this limit and another in use were meant to share their keys.
    fn confusion(&self, other: &Self, policy: &Policy) -> Option<&'static str> {
        if self.limits != other.limits || self.strategy != other.strategy {
            return Some("their quotas or strategies differ");
        }
        (policy.name() == Policy::UNNAMED).then_some("neither has a name, so both are called `default`")
    }
}

impl Budget for LocalBudget {
    fn decide(&self, ask: Ask<'_>) -> Answer {
        let suppressed = matches!(self.strategy, Strategy::Suppressed(_));
        let (outcome, now_ms) = self.shared.outcome(&self.table, ask.key, ask.cost, &self.limits, suppressed);
        Answer::Ready(Ok(self.shared.decision(&outcome, ask.cost, &self.limits, now_ms)))
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        let (now, cost) = (self.shared.now(), cost.min(decision.charged));
        if cost > 0 {
            self.table.settle(key, |window, horizon| {
                window.refund(now, decision.stamp, cost, horizon);
            });
        }
    }
}

impl fmt::Debug for LocalBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBudget")
            .field("limits", &self.limits)
            .field("strategy", &self.strategy)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Decides on a key of one table; the outcome, and the instant to which it refers.
    #[inline]
    fn outcome(&self, table: &Table, key: &[u8], cost: u64, limits: &[Limit], suppressed: bool) -> (Outcome, u64) {
        let now_ms = self.time.now_ms();
        let now = self.ticks.at(now_ms);
        let outcome = if suppressed {
            let random = fastrand::u32(..);
            let decide =
                |window: &mut Window, horizon: &Horizon| engine::suppressed(window, now, cost, limits, horizon, random);
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        } else {
            let decide =
                |window: &mut Window, horizon: &Horizon| engine::absolute(window, now, cost, limits, horizon, true);
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        };
        (outcome, now_ms)
    }

    /// An outcome's ticks as milliseconds from now, and what follows from the limit that binds.
    #[inline]
    fn decision(&self, outcome: &Outcome, charged: u64, limits: &[Limit], now_ms: u64) -> Decision {
        let limit = outcome.capacity(limits);
        Decision {
            verdict: outcome.verdict,
            limit_index: usize::from(outcome.binding),
            violated: outcome.violated,
            limit,
            used: outcome.used,
            retry_after_ms: self.wait_ms(outcome.fits_at, now_ms),
            remaining_after_waiting: limit.saturating_sub(outcome.used_then),
            reset_after_ms: self.wait_ms(outcome.empty_at(limits), now_ms),
            factor: f64::from(outcome.factor),
            stamp: outcome.newest,
            charged: if outcome.is_allowed() { charged } else { 0 },
        }
    }

    /// How long until this clock surely shows `tick`: by then even a clock that lags has come to it.
    #[inline]
    fn wait_ms(&self, tick: u64, now_ms: u64) -> u64 {
        match tick {
            0 => 0,
            NEVER => u64::MAX,
            tick => (self.ticks.start_ms(tick).saturating_sub(now_ms) + self.lag_ms).max(1),
        }
    }

    fn now(&self) -> u64 {
        self.ticks.at(self.time.now_ms())
    }

    /// The limit that a bare rate means in this store.
    #[inline]
    fn limit(&self, rate: &RateLimit, suppressed: bool) -> Limit {
        let capacity = rate.capacity_over(self.window_seconds);
        let hard = if suppressed { self.hard.cap(capacity) } else { capacity };
        self.limit_over(capacity, hard, self.window)
    }

    #[inline]
    fn limit_over(&self, capacity: u64, hard: u64, window: u32) -> Limit {
        Limit { capacity, hard, window, span: window + self.lag, fifth: self.fifth_of_a_second }
    }

    /// The budget of a limit whose name from now on keeps history for its spans too, and the one that was opened
    /// last under that name, if it is in use.
    fn named(
        self: &Arc<Self>,
        policy: &Policy,
        limits: Box<[Limit]>,
    ) -> Result<(Arc<LocalBudget>, Option<Arc<LocalBudget>>), ConfigError> {
        let spans: Vec<u32> = limits.iter().map(|limit| limit.span).collect();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let known = named.get(policy.name());
        let table = known.map_or_else(|| Arc::new(Table::new(self.max_keys)), |known| Arc::clone(&known.table));
        if !table.horizon().widen(&spans) {
            return Err(ConfigError::TooManyQuotas { most: MAX_QUOTAS });
        }
        let other = known.and_then(|known| known.last.upgrade());
        let (shared, strategy) = (Arc::clone(self), policy.strategy());
        let budget = Arc::new(LocalBudget { shared, table: Arc::clone(&table), limits, strategy });
        named.insert(policy.name().into(), Named { table, last: Arc::downgrade(&budget) });
        Ok((budget, other))
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.main).chain(named.values().map(|named| &named.table)).cloned().collect()
    }

    /// One round of the cleanup loop: a part of every table.
    fn sweep_round(&self) {
        let now = self.now();
        for table in self.tables() {
            for _ in 0..table.steps().div_ceil(janitor::ROUNDS_PER_PASS) {
                table.sweep_step(now);
            }
        }
    }
}

/// A window in ticks, if a bucket fits it and its history can be addressed.
fn window_ticks(ticks: Ticks, lag: u32, window_ms: u64) -> Result<u32, ConfigError> {
    let bucket_ms = ticks.bucket_ms();
    if bucket_ms > window_ms {
        return Err(ConfigError::BucketExceedsWindow { bucket_ms, window_ms });
    }
    let most = Ticks::MAX_SPAN.saturating_sub(u64::from(lag));
    match ticks.covering(window_ms) {
        window if window <= most => Ok(narrow(window)),
        _ => Err(ConfigError::WindowTooLong { window_ms, least_bucket_ms: window_ms.div_ceil(most.max(1)) }),
    }
}

fn narrow(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

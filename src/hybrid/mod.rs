//! The hybrid store: decisions from memory, limits from Redis.
//!
//! An instance holds units of a key in advance, a lease, and spends them without asking. Redis has charged them
//! when it gave them, so that whatever happens no window admits more than the limit; the instance reports by age
//! what it has spent, and what it has not is free again. A key that is asked for less than once in an interval
//! is decided on in Redis each time, and one that is full is refused here until it frees up.
//!
//! In this room: what becomes of a request (`decide`), what one instance knows of a key (`purse`, `lease`,
//! `table`), how that is settled with Redis (`settling`), and what does so in time (`syncer`). The script that lends is `redis/script/lease.lua`.

mod decide;
mod handle;
mod lease;
mod purse;
mod refusal;
mod settling;
#[cfg(test)]
mod sim;
mod syncer;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use self::purse::{Purse, Rules, Terms};
use self::settling::OwnRules;
use self::syncer::Syncer;
use self::table::Purses;
use crate::decision::Decision;
use crate::engine::Limit;
use crate::error::ConfigError;
use crate::local::Settings;
use crate::names::Names;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::script::Correction;
use crate::redis::{self, Finally, Redis, runtime};
use crate::scale::Scale;
use crate::store::{Answer, Ask, Budget, OnStoreError, Policy, Store, Strategy};
use crate::strategy::{Absolute, Suppressed};
use crate::time::{TimeSource, millis};

pub use self::handle::HybridLimits;

/// Limits in Redis, shared by all instances, and decided on in memory. Cloning shares it.
///
/// [`RateLimiter::hybrid`](crate::RateLimiter::hybrid) gives it. It is a store for layers, and has the engine's
/// calls. It counts in the same values as [`Redis`], so both may be used side by side for the same limits.
///
/// # The bound
///
/// In no window more is admitted than the limit (times 1 + [`Tolerance`]), by any number of instances, however
/// messages are delayed or lost and whichever instance dies. Units are charged in Redis before an instance may
/// spend them, as of the last instant at which it may. What that rests on:
///
/// - clocks run equally fast, within one part in 64; they need not show the same time
/// - Redis loses nothing: where it does, what instances have admitted within the window and not brought back
///   yet may be admitted once more, since each brings its own back when it next comes to a key
/// - [`OnStoreError`]: while Redis is gone leases are spent to their end, and then the policy decides
///
/// Units that an instance holds and does not spend are missed elsewhere until it gives them back: near a limit
/// after two or three [`sync intervals`](SyncIntervalMs), far below it after ten; of a slow key up to an eighth of
/// what is free after half a window or a minute.
///
/// # Examples
///
/// ```no_run
/// use tower_weir::{RateLimit, RateLimiter};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let rl = RateLimiter::builder().redis_url("redis://127.0.0.1:6379").build()?;
/// let rate = RateLimit::try_from(1_000.0)?; // 60 000 in any minute, on all instances together
/// if !rl.hybrid().absolute().inc("user_123", &rate, 1).await?.is_allowed() {
///     println!("later");
/// }
/// rl.hybrid().shutdown().await; // what is held and not spent goes back at once
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Hybrid(Option<Arc<Shared>>);

/// What the handles of one store share.
struct Shared {
    redis: Arc<redis::Shared>,
    time: TimeSource,
    terms: Terms,
    tolerance: Tolerance,
    max_keys: usize,
    counter: AtomicU32,
    on_store_error: OnStoreError,
    /// The keys of the engine's own calls.
    main: Arc<Purses>,
    /// The keys of the limits that layers opened.
    named: Names<Purses>,
    syncer: Arc<Syncer>,
    is_closed: AtomicBool,
}

/// One decision that is wanted.
struct Wanted<'a> {
    key: &'a [u8],
    cost: u64,
    rules: Rules<'a>,
    on_store_error: OnStoreError,
}

impl Hybrid {
    /// A store that has no Redis, and says so.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The hybrid of a Redis store.
    pub(crate) fn new(
        redis: &Redis,
        settings: &Settings,
        interval: SyncIntervalMs,
        tolerance: Tolerance,
    ) -> Result<Self, ConfigError> {
        let Some(redis) = redis.shared() else { return Ok(Self::none()) };
        // Not the clock of the options: it may be set by hand, and Redis goes by the real one.
        let time = TimeSource::system();
        let lag_ms = time.lag_ms();
        let terms = Terms {
            scale: Scale::new(settings.bucket_ms, lag_ms, settings.window_seconds, settings.hard)?,
            lag_ms,
            interval_ms: interval.get(),
            deadline_ms: millis(redis.lanes.deadline()),
            nonce: lease::nonce(),
        };
        let main = Purses::new(redis.keys(None), settings.max_keys);
        main.keys.horizon.widen(&[redis.scale.span()]);
        main.here.widen(&[terms.scale.span()]);
        Ok(Self(Some(Arc::new(Shared {
            time,
            terms,
            tolerance,
            max_keys: settings.max_keys,
            counter: AtomicU32::new(0),
            on_store_error: redis.on_store_error,
            redis: Arc::clone(redis),
            main: Arc::new(main),
            named: Names::new(TimeSource::system()),
            syncer: Syncer::new(),
            is_closed: AtomicBool::new(false),
        }))))
    }

    /// Requests decided by the absolute strategy: what fits is admitted, the rest rejected.
    pub fn absolute(&self) -> HybridLimits<'_, Absolute> {
        HybridLimits::new(self)
    }

    /// Requests decided by the suppressed strategy: an overload is thinned smoothly.
    ///
    /// It shares the histories of [`absolute`](Self::absolute): a key's units count for both.
    pub fn suppressed(&self) -> HybridLimits<'_, Suppressed> {
        HybridLimits::new(self)
    }

    /// Gives back all units that are held and not spent, so that the other instances have them at once.
    ///
    /// Without it they come back when their leases end. From then on nothing is held any more, and each decision
    /// asks Redis.
    pub async fn shutdown(&self) {
        if let Some(shared) = &self.0 {
            shared.is_closed.store(true, Ordering::SeqCst);
            syncer::give_back(shared).await;
        }
    }

    /// The number of keys of which this instance knows something, over all limits.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.tables().iter().map(|purses| purses.len()).sum())
    }
}

impl fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => f
                .debug_struct("Hybrid")
                .field("sync_interval_ms", &shared.terms.interval_ms)
                .field("tolerance", &shared.tolerance)
                .finish_non_exhaustive(),
            None => f.write_str("Hybrid(not configured)"),
        }
    }
}

impl Store for Hybrid {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = self.0.as_ref().ok_or(ConfigError::NoRedis)?;
        let limits: Arc<[Limit]> = shared.redis.scale.limits(policy)?.into();
        let here: Vec<Limit> = limits.iter().map(|limit| shared.terms.scale.with_lag(*limit)).collect();
        let new = || Purses::new(shared.redis.keys(Some(policy.name())), shared.max_keys);
        let (purses, opened) = shared.named.open(policy, &here, new)?;
        let is_suppressed = matches!(policy.strategy(), Strategy::Suppressed(_));
        let rules = OwnRules::new(limits, is_suppressed, shared.tolerance);
        Ok(Arc::new(HybridBudget { shared: Arc::clone(shared), purses, rules, opened }))
    }
}

/// One policy's limits on the keys of its name.
struct HybridBudget {
    shared: Arc<Shared>,
    purses: Arc<Purses>,
    rules: OwnRules,
    opened: Arc<Policy>,
}

impl Budget for HybridBudget {
    fn decide(&self, ask: Ask<'_>) -> Answer {
        let on_store_error = self.opened.on_store_error();
        let wanted = Wanted { key: ask.key, cost: ask.cost, rules: self.rules.borrow(), on_store_error };
        self.shared.decide(&self.purses, &wanted, || self.rules.clone())
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        let units = cost.min(decision.charged);
        if units == 0 {
            return;
        }
        let (shared, purses, print) = (&self.shared, &self.purses, self.purses.print(key));
        if decision.is_from_lease || decision.is_local_share {
            purses.with(print, |purse: &mut Purse| purse.refund(units, decision, &purses.here));
            return;
        }
        let (shared, purses, key) = (Arc::clone(shared), Arc::clone(purses), Box::<[u8]>::from(key));
        let refund = Correction::Refund { stamp: decision.stamp, units };
        let _ = runtime::spawn(async move {
            // Even where no answer came it may have been done.
            let _changed = Finally(|| {
                purses.with(print, Purse::relent);
            });
            let _ = shared.redis.correct(&purses.keys, &key, refund).await;
        });
    }
}

impl fmt::Debug for HybridBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

impl Shared {
    /// Rules for settling a key without asking for anything: any do.
    fn no_rules(&self) -> OwnRules {
        OwnRules::new([self.redis.scale.limit_of(1)].into(), false, self.tolerance)
    }

    fn tables(&self) -> Vec<Arc<Purses>> {
        std::iter::once(Arc::clone(&self.main)).chain(self.named.all()).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.syncer.wake();
    }
}

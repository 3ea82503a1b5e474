//! The hybrid store: decisions from memory, limits from Redis.
//!
//! An instance holds units of a key in advance, a lease, and spends them without asking. Redis has charged them
//! when it gave them, so that whatever happens no window admits more than the limit; the instance reports by age
//! what it has spent, and what it has not is free again. A key that is asked for less than once in an interval
//! is decided on in Redis each time, and one that is full is refused here until it frees up.
//!
//! In this room: what one instance knows of a key (`purse`, `lease`, `table`), how that is settled with Redis
//! (`settling`), and what does so in time (`syncer`). The script that lends is `redis/script/lease.lua`.

mod handle;
mod lease;
mod purse;
mod settling;
#[cfg(test)]
mod sim;
mod syncer;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

use self::purse::{Purse, Rules, Step, Terms, Trip};
use self::settling::{OwnRules, Settling};
use self::syncer::Syncer;
use self::table::Purses;
use crate::decision::Decision;
use crate::engine::Limit;
use crate::error::{ConfigError, StoreError};
use crate::fingerprint::Fingerprint;
use crate::local::Settings;
use crate::names::Names;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::script::{Ask as Cost, Correction, Mode};
use crate::redis::{self, Failure, Finally, Redis, runtime};
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
/// after one [`sync interval`](SyncIntervalMs), far below it after up to an eighth of the window.
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
        let time = TimeSource::system(settings.bucket_ms);
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
            named: Names::new(),
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
        let accept = |purses: &Purses| purses.keys.horizon.serve(&limits).and_then(|()| purses.here.serve(&here));
        let (purses, opened) = shared.named.open(policy, new, accept)?;
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

/// What comes of a request that its purse cannot decide at once.
enum Next {
    Decided(Decision),
    Settle(Settling),
    /// To be asked alone, after what is under way.
    Ask(Option<Arc<Semaphore>>),
}

impl Shared {
    /// Decides: at once from a lease or by a refusal that holds, else after a round trip.
    #[inline]
    fn decide(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        wanted: &Wanted<'_>,
        own_rules: impl FnOnce() -> OwnRules,
    ) -> Answer {
        let (now, print) = (self.time.now_ms(), purses.print(wanted.key));
        let step = purses.with(print, |purse| purse.spend(now, wanted.cost, &wanted.rules, &self.terms));
        match step {
            Some(Step::Decided(decision)) => Answer::Ready(Ok(decision)),
            Some(Step::Low(decision, counter)) => {
                self.syncer.expect(now, counter, purses, print, &own_rules());
                Answer::Ready(Ok(decision))
            }
            step => self.ask(purses, print, wanted, step, now, own_rules()),
        }
    }

    #[cold]
    fn ask(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        wanted: &Wanted<'_>,
        step: Option<Step>,
        now: u64,
        rules: OwnRules,
    ) -> Answer {
        if !self.redis.lanes.allows(|| purses.keys.names.name(wanted.key)) {
            return Answer::Ready(self.without_redis(purses, print, wanted, Failure::unavailable()));
        }
        let visit = |purse: &mut Purse| {
            let step = step.unwrap_or_else(|| purse.spend(now, wanted.cost, &wanted.rules, &self.terms));
            self.next(purses, print, purse, step, wanted.cost, &rules)
        };
        let next = purses.with_new(print, wanted.key, now, &self.terms, visit).unwrap_or(Next::Ask(None));
        if let Next::Decided(decision) = next {
            return Answer::Ready(Ok(decision));
        }
        let (shared, purses) = (Arc::clone(self), Arc::clone(purses));
        let (key, cost, on_store_error) = (Box::<[u8]>::from(wanted.key), wanted.cost, wanted.on_store_error);
        Answer::Pending(Box::pin(async move {
            syncer::start(&shared);
            let result = match next {
                Next::Ask(Some(gate)) => shared.wait(&purses, print, &gate, &key, cost, &rules).await,
                next => shared.follow(&purses, print, next, &key, cost, &rules).await,
            };
            result.or_else(|failure| {
                let wanted = Wanted { key: &key, cost, rules: rules.borrow(), on_store_error };
                shared.without_redis(&purses, print, &wanted, failure)
            })
        }))
    }

    /// What follows from a step, under the key's lock.
    fn next(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        purse: &mut Purse,
        step: Step,
        cost: u64,
        rules: &OwnRules,
    ) -> Next {
        match step {
            Step::Decided(decision) | Step::Low(decision, _) => Next::Decided(decision),
            Step::Settle if !purse.is_settling() => {
                Next::Settle(self.begin(purses, print, purse, rules, true).with_ask(cost))
            }
            // A look changes nothing, and waits for nothing.
            _ => Next::Ask(if cost > 0 { purse.gate() } else { None }),
        }
    }

    /// Waits until the key is settled, and has Redis decide only if that did not bring enough: so many who come at
    /// once are not as many questions.
    async fn wait(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        gate: &Semaphore,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        let (began, deadline) = (Instant::now(), self.redis.lanes.deadline());
        let _closed = runtime::timeout(deadline, gate.acquire())?.await.map_err(|_| Failure::timeout())?;
        let now = self.time.now_ms();
        let again = |purse: &mut Purse| {
            let step = purse.spend_again(now, cost, &rules.borrow(), &self.terms);
            self.next(purses, print, purse, step, cost, rules)
        };
        let next = purses.with(print, again).unwrap_or(Next::Ask(None));
        let rest = deadline.saturating_sub(began.elapsed());
        let follow = self.follow(purses, print, next, key, cost, rules);
        runtime::timeout(rest, follow)?.await.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    async fn follow(
        &self,
        purses: &Purses,
        print: Fingerprint,
        next: Next,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        match next {
            Next::Decided(decision) => Ok(decision),
            Next::Settle(settling) => settling.fly().await?.ok_or_else(Failure::unreadable),
            Next::Ask(_) => self.ask_alone(purses, print, key, cost, rules).await,
        }
    }

    /// Begins to settle a key.
    fn begin(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        purse: &mut Purse,
        rules: &OwnRules,
        wants: bool,
    ) -> Settling {
        let now = self.time.now_ms();
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let wants = wants && !self.is_closed.load(Ordering::Relaxed);
        let mut part = purse.begin(now, counter, wants, &purses.here, &self.terms);
        if !rules.is_suppressed {
            purse.decline(std::mem::take(&mut part.declined));
        }
        let trip = Trip { sent: now, now, changes: purse.changes() };
        Settling::new(Arc::clone(self), Arc::clone(purses), print, purse.name.clone(), part, rules.clone(), trip)
    }

    /// Asks Redis for one request alone, while its key is being settled or has no purse.
    async fn ask_alone(
        &self,
        purses: &Purses,
        print: Fingerprint,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        let mode = if rules.is_suppressed { Mode::Suppressed } else { Mode::Absolute };
        let (sent, ask) = (self.time.now_ms(), Cost { cost, random: fastrand::u32(..) });
        let changes = purses.with(print, |purse| purse.changes()).unwrap_or(0);
        let reply = self.redis.question(&purses.keys, key, mode, &rules.scaled, ask).await?;
        let decision = self.redis.read(&reply, ask, cost, &rules.scaled)?;
        let decision = rules.told(decision);
        let (trip, rules) = (Trip { sent, now: self.time.now_ms(), changes }, rules.borrow());
        let keep = |purse: &mut Purse| purse.remember(trip, cost, decision, &rules, &purses.here, &self.terms);
        purses.with(print, keep);
        Ok(decision)
    }

    /// What the policy says while Redis cannot be asked.
    fn without_redis(
        &self,
        purses: &Purses,
        print: Fingerprint,
        wanted: &Wanted<'_>,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        if wanted.on_store_error != OnStoreError::LocalShare {
            return Err(failure.into());
        }
        let (now, instances) = (self.time.now_ms(), self.redis.instances());
        let share =
            |purse: &mut Purse| purse.share(now, wanted.cost, &wanted.rules, instances, &purses.here, &self.terms);
        purses.with_new(print, wanted.key, now, &self.terms, share).ok_or_else(|| failure.into())
    }

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

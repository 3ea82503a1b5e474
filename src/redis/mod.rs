//! The Redis store: the windows of many keys on a server, shared by all instances.
//!
//! A decision is one step of a script on one key, by the server's clock. Around that stand a deny cache, so
//! that a flood costs Redis nothing; lanes, so that many callers share a round trip; a deadline and a breaker,
//! so that Redis is never what a request waits for; and this instance's share of the limit for when it is gone.

mod breaker;
mod debts;
mod denied;
mod handle;
mod instances;
mod keys;
mod lanes;
mod link;
mod nonce;
mod options;
mod outage;
pub(crate) mod runtime;
pub(crate) mod script;
#[cfg(test)]
#[path = "../../tests/servers/mod.rs"]
pub(crate) mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::denied::{Asked, Denied};
use self::instances::Instances;
use self::keys::KeyNames;
use self::lanes::Lanes;
use self::script::{CORRECT, Corrected, Correction, Mode, PolicyBytes};
use crate::decision::Decision;
use crate::engine::{Horizon, Limit};
use crate::error::{ConfigError, StoreError};
use crate::local::{Local, Settings, Share};
use crate::names::{Kept, Names};
use crate::scale::Scale;
use crate::store::{Answer, Ask, Budget, OnStoreError, Policy, Store, Strategy};
use crate::strategy::{Absolute, Suppressed};
use crate::telemetry::{self, Notice};
use crate::time::TimeSource;

pub use self::handle::RedisLimits;
pub(crate) use self::lanes::{Body, Question, Reply};
pub(crate) use self::link::Failure;
pub(crate) use self::nonce::Nonce;
pub use self::options::RedisOptions;

/// Limits in Redis, shared by all instances that use the same server and prefix. Cloning shares it.
///
/// [`RateLimiter::redis`](crate::RateLimiter::redis) gives it. It is a store for layers, and has the engine's
/// calls. A decision takes one round trip at most and ends within the deadline; what happens while Redis is
/// gone says [`OnStoreError`]. Where it is and what is expected of it says [`RedisOptions`].
///
/// Each key has one value in Redis, under a name like `weir:1:{7Vn2CZAg7Atqz3y_mppdsg}:api`: the prefix, a
/// version, a digest of the key and the limit's name. It expires by itself.
///
/// # Examples
///
/// For the engine's calls:
///
/// ```no_run
/// use tower_weir::{RateLimit, RateLimiter};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let rl = RateLimiter::builder().redis_url("redis://127.0.0.1:6379").build()?;
/// let rate = RateLimit::try_from(10.0)?; // 600 in any minute, on all instances together
/// if !rl.redis().absolute().inc("user_123", &rate, 1).await?.is_allowed() {
///     println!("later");
/// }
/// # Ok(())
/// # }
/// ```
///
/// For a layer:
///
/// ```
/// # #[cfg(feature = "middleware")] {
/// use tower_weir::{RateLimitLayer, RateLimiter};
///
/// let rl = RateLimiter::builder().redis_url("redis://127.0.0.1:6379").build()?; // Redis need not run yet
/// let layer = RateLimitLayer::builder().quota("100/s".parse()?).limiter(rl.redis()).build()?;
/// # }
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Redis(Option<Arc<Shared>>);

/// What the handles of one store share.
pub(crate) struct Shared {
    pub(crate) scale: Scale,
    pub(crate) lanes: Arc<Lanes>,
    prefix: Box<str>,
    local: Local,
    instances: Instances,
    denies: bool,
    pub(crate) on_store_error: OnStoreError,
    /// The keys of the engine's own calls.
    main: Account,
    /// The keys of the limits that layers opened.
    named: Names<Keys>,
}

/// The keys of one limit's name.
pub(crate) struct Keys {
    pub(crate) names: KeyNames,
    pub(crate) horizon: Horizon,
    denied: Option<Denied>,
}

/// The keys of a name, and what goes on with them while Redis is gone.
#[derive(Clone)]
struct Account {
    keys: Arc<Keys>,
    share: Option<Share>,
}

/// One decision that is wanted.
struct Wanted<'a> {
    key: &'a [u8],
    cost: u64,
    limits: &'a Arc<[Limit]>,
    mode: Mode,
}

impl Redis {
    /// A store that has no Redis, and says so.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(options: &RedisOptions, settings: &Settings) -> Result<Self, ConfigError> {
        // The server's clock does not lag.
        let scale = Scale::new(settings.bucket_ms, 0, settings.window_seconds, settings.hard)?;
        let local = Local::new(settings.clone())?;
        if scale.bucket_ms() > u64::from(u32::MAX) {
            return Err(ConfigError::BucketTooLong { most_ms: u64::from(u32::MAX) });
        }
        options.check()?;
        let lanes = Lanes::new(options.link()?, options.deadline, &options.prefix, scale.bucket_ms());
        let keys = Keys::new(&options.prefix, None, options.denies);
        keys.horizon.widen(&[scale.span()]);
        let share = match options.on_store_error {
            OnStoreError::LocalShare => Some(local.share(None, &[])?),
            _ => None,
        };
        Ok(Self(Some(Arc::new(Shared {
            scale,
            lanes,
            prefix: options.prefix.clone(),
            local,
            instances: Instances::new(options.instances, &options.prefix),
            denies: options.denies,
            on_store_error: options.on_store_error,
            main: Account { keys: Arc::new(keys), share },
            named: Names::new(TimeSource::system()),
        }))))
    }

    /// What a hybrid store builds on, where there is a Redis.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.0.as_ref()
    }

    /// Starts to return the memory of this instance's shares.
    pub(crate) fn start_cleanup(&self) {
        self.0.iter().for_each(|shared| shared.local.start_cleanup());
    }

    pub(crate) fn stop_cleanup(&self) {
        self.0.iter().for_each(|shared| shared.local.stop_cleanup());
    }

    /// Requests decided by the absolute strategy: what fits is admitted, the rest rejected.
    pub fn absolute(&self) -> RedisLimits<'_, Absolute> {
        RedisLimits::new(self)
    }

    /// Requests decided by the suppressed strategy: an overload is thinned smoothly.
    ///
    /// It shares the histories of [`absolute`](Self::absolute): a key's units count for both.
    pub fn suppressed(&self) -> RedisLimits<'_, Suppressed> {
        RedisLimits::new(self)
    }
}

impl fmt::Debug for Redis {
    /// The address and the password are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => f
                .debug_struct("Redis")
                .field("prefix", &shared.prefix)
                .field("on_store_error", &shared.on_store_error)
                .finish_non_exhaustive(),
            None => f.write_str("Redis(not configured)"),
        }
    }
}

impl Store for Redis {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = self.0.as_ref().ok_or(ConfigError::NoRedis)?;
        let limits: Arc<[Limit]> = shared.scale.limits(policy)?.into();
        let new = || Keys::new(&shared.prefix, Some(policy.name()), shared.denies);
        let (keys, opened) = shared.named.open(policy, &limits, new)?;
        let share = match policy.on_store_error() {
            OnStoreError::LocalShare => Some(shared.local.share(Some(policy), &limits)?),
            _ => None,
        };
        Ok(Arc::new(RedisBudget { shared: Arc::clone(shared), account: Account { keys, share }, limits, opened }))
    }
}

/// One policy's limits on the keys of its name.
struct RedisBudget {
    shared: Arc<Shared>,
    account: Account,
    limits: Arc<[Limit]>,
    opened: Arc<Policy>,
}

impl Budget for RedisBudget {
    fn decide(&self, ask: Ask<'_>) -> Answer {
        let mode = match self.opened.strategy() {
            Strategy::Absolute => Mode::Absolute,
            Strategy::Suppressed(_) => Mode::Suppressed,
        };
        self.shared.decide(&self.account, &Wanted { key: ask.key, cost: ask.cost, limits: &self.limits, mode })
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        let units = cost.min(decision.charged);
        match &self.account.share {
            Some(share) if decision.is_local_share => {
                share.refund(key, units, decision);
                self.shared.lanes.debts().forgive(&self.account.keys.names.name(key), units);
            }
            _ if units > 0 && !decision.is_local_share => {
                self.shared.refund(&self.account.keys, key, units, decision.stamp);
            }
            _ => {}
        }
    }
}

impl fmt::Debug for RedisBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

impl Kept for Keys {
    fn keep_history(&self, spans: &[u32]) {
        self.horizon.assign(spans);
    }

    /// The history is in Redis, and the spans say how much of it stays there.
    fn may_go(&self, is_past: bool) -> bool {
        is_past
    }
}

impl Keys {
    fn new(prefix: &str, name: Option<&str>, denies: bool) -> Self {
        let denied = denies.then(|| Denied::new(Denied::MOST));
        Self { names: KeyNames::new(prefix, name), horizon: Horizon::new(Horizon::WORDS_PER_SPAN), denied }
    }

    fn forget(&self, key: &[u8]) {
        if let Some(denied) = &self.denied {
            denied.forget(key);
        }
    }
}

impl Shared {
    /// Decides: at once where no one need be asked, else after a round trip.
    fn decide(self: &Arc<Self>, account: &Account, wanted: &Wanted<'_>) -> Answer {
        let keys = &account.keys;
        if !self.lanes.allows(|| keys.names.name(wanted.key)) {
            return Answer::Ready(self.without_redis(account, wanted, Failure::unavailable()));
        }
        if wanted.mode == Mode::Absolute
            && let Some(denied) = &keys.denied
            && let Some(refusal) = denied.get(wanted.key, wanted.cost, wanted.limits)
        {
            return Answer::Ready(Ok(refusal));
        }
        let (shared, account) = (Arc::clone(self), account.clone());
        let (key, limits, cost, mode) = (Box::from(wanted.key), Arc::clone(wanted.limits), wanted.cost, wanted.mode);
        Answer::Pending(Box::pin(async move {
            let wanted = Wanted { key: &key, cost, limits: &limits, mode };
            match shared.ask(&account.keys, &wanted).await {
                Ok((decision, asked)) => {
                    shared.remember(&account, &wanted, &decision, asked);
                    Ok(decision)
                }
                Err(failure) => shared.without_redis(&account, &wanted, failure),
            }
        }))
    }

    /// Keys that nobody else shares with these handles, of a limit or of the engine's own calls.
    pub(crate) fn keys(&self, limit: Option<&str>) -> Keys {
        Keys::new(&self.prefix, limit, false)
    }

    /// Asks Redis; the decision, and when it was asked and answered.
    async fn ask(&self, keys: &Keys, wanted: &Wanted<'_>) -> Result<(Decision, Asked), Failure> {
        let changes = keys.denied.as_ref().map_or(0, |denied| denied.changes(wanted.key));
        let ask = script::Ask { cost: wanted.cost, random: fastrand::u32(..) };
        let reply = self.question(keys, wanted.key, wanted.mode, wanted.limits, ask).await?;
        let charged = if wanted.mode == Mode::Look { 0 } else { wanted.cost };
        let decision = self.read(&reply, ask, charged, wanted.limits)?;
        Ok((decision, Asked { sent: reply.sent, received: reply.received, changes }))
    }

    /// The decision that an answer to one ask holds.
    pub(crate) fn read(
        &self,
        reply: &Reply,
        ask: script::Ask,
        charged: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let answered = reply.read()?;
        let now = self.scale.at(answered.now_ms);
        let outcome = answered.outcome(0, ask, limits, now).ok_or_else(Failure::unreadable)?;
        Ok(self.scale.decision(&outcome, charged, limits, answered.now_ms))
    }

    /// Asks, and charges nothing.
    pub(crate) async fn look(&self, keys: &Keys, key: &[u8], cost: u64, limits: &[Limit]) -> Result<Decision, Failure> {
        let ask = script::Ask { cost, random: 0 };
        let reply = self.question(keys, key, Mode::Look, limits, ask).await?;
        self.read(&reply, ask, 0, limits)
    }

    /// The suppressed strategy's factor.
    pub(crate) async fn factor(&self, keys: &Keys, key: &[u8], limits: &[Limit]) -> Result<f64, Failure> {
        let reply = self.question(keys, key, Mode::Factor, limits, script::Ask { cost: 1, random: 0 }).await?;
        reply.read()?.factor(0).ok_or_else(Failure::unreadable)
    }

    /// Asks one question by itself.
    pub(crate) async fn question(
        &self,
        keys: &Keys,
        key: &[u8],
        mode: Mode,
        limits: &[Limit],
        ask: script::Ask,
    ) -> Result<Reply, Failure> {
        let policy = PolicyBytes::decide(self.scale.bucket_ms(), &keys.horizon, mode, limits);
        self.lanes.decide(Question { policy, key: keys.names.name(key), body: Body::Ask(ask) }).await
    }

    /// Keeps what a decision means for the next ones, here and while Redis is gone.
    fn remember(&self, account: &Account, wanted: &Wanted<'_>, decision: &Decision, asked: Asked) {
        if decision.used() > decision.limit() {
            self.check_use(&account.keys, wanted, decision);
        }
        if decision.charged > 0 {
            if let Some(denied) = &account.keys.denied {
                denied.outdate(wanted.key);
            }
            if let Some(share) = &account.share {
                share.record(wanted.key, decision.charged);
                self.beat();
            }
        } else if wanted.mode == Mode::Absolute
            && !decision.is_allowed()
            && let Some(denied) = &account.keys.denied
        {
            denied.insert(wanted.key, wanted.cost, wanted.limits, decision, asked);
        }
    }

    /// Reports that a key holds more than its limits admit: somebody else charges it by other ones.
    #[cold]
    fn check_use(&self, keys: &Keys, wanted: &Wanted<'_>, decision: &Decision) {
        // The suppressed strategy admits some of what is above the capacity; around an outage the shares do.
        let is_ours = wanted.limits.iter().any(|limit| decision.used() <= limit.hard.max(limit.capacity))
            && wanted.mode == Mode::Suppressed;
        if !is_ours && !self.lanes.had_outage_within(self.longest(&keys.horizon) + Duration::from_secs(10)) {
            telemetry::notify(Notice::RedisNameShared, None);
        }
    }

    /// What the policy says while Redis cannot be asked.
    fn without_redis(&self, account: &Account, wanted: &Wanted<'_>, failure: Failure) -> Result<Decision, StoreError> {
        let Some(share) = &account.share else { return Err(failure.into()) };
        let (instances, is_suppressed) = (self.instances(), wanted.mode == Mode::Suppressed);
        let decision = share.decide(wanted.key, wanted.cost, wanted.limits, instances, is_suppressed);
        // What may have run may have been charged: told again it would count twice.
        if decision.charged > 0 && !failure.may_have_run() {
            self.owe(&account.keys, wanted.key, decision.charged);
        }
        Ok(decision)
    }

    /// Notes units that this instance's share admitted, to tell Redis as soon as it answers.
    pub(crate) fn owe(&self, keys: &Arc<Keys>, key: &[u8], units: u64) {
        let apart = debts::apart(self.longest(&keys.horizon));
        self.lanes.debts().owe(keys, keys.names.name(key), units, apart);
    }

    /// The longest window of the limits on some keys.
    fn longest(&self, horizon: &Horizon) -> Duration {
        let (spans, count) = horizon.spans();
        let ticks = spans[..count].iter().max().copied().unwrap_or(0);
        Duration::from_millis(u64::from(ticks).saturating_mul(self.scale.bucket_ms()))
    }

    /// Says that this instance is there, where that is due.
    pub(crate) fn beat(&self) {
        self.instances.beat(&self.lanes);
    }

    /// By how many instances the limits are shared, as far as is known.
    pub(crate) fn instances(&self) -> u64 {
        self.instances.count()
    }

    /// Forgets all keys of a name.
    pub(crate) async fn clear(&self, keys: &Keys) -> Result<(), Failure> {
        // Where it ends early some keys are gone.
        let _changed = Finally(|| keys.denied.iter().for_each(Denied::clear));
        self.lanes.link().delete_matching(&keys.names.pattern()).await.map(drop)
    }

    /// Changes a key by hand.
    pub(crate) async fn correct(&self, keys: &Keys, key: &[u8], correction: Correction) -> Result<Corrected, Failure> {
        let policy = PolicyBytes::correct(self.scale.bucket_ms(), &keys.horizon, self.scale.span(), correction);
        // Even where no answer came, or nobody waited for it, it may have been done.
        let _changed = Finally(|| keys.forget(key));
        let answer = self.lanes.run(&CORRECT, &keys.names.name(key), &policy).await?;
        Corrected::read(&answer).ok_or_else(Failure::unreadable)
    }

    /// Takes units back, in the background and best effort.
    fn refund(self: &Arc<Self>, keys: &Arc<Keys>, key: &[u8], units: u64, stamp: u64) {
        let (shared, keys, key) = (Arc::clone(self), Arc::clone(keys), Box::<[u8]>::from(key));
        keys.forget(&key);
        let _ = runtime::spawn(async move {
            let _ = shared.correct(&keys, &key, Correction::Refund { stamp, units }).await;
        });
    }
}

/// Is called when it is dropped, also with the future that holds it.
pub(crate) struct Finally<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

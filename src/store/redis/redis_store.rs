use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::calls::RedisLimits;
use super::state::{LimitHandle, Shared, Wanted};
use crate::correction::RateLimitComparator;
use crate::decision::{Charge, Decision};
use crate::engine::{Limit, SetMode};
use crate::error::ConfigError;
use crate::keyspace::Settings;
use crate::policy::{OnStoreError, Policy};
use crate::redis::Client;
use crate::script::Mode;
use crate::store::budget::{Budget, BudgetChange, BudgetHold, BudgetRequest, BudgetResponse, Store};
use crate::store::local_share::LocalShare;
use crate::store::remote_hold::{HeldKey, RemoteHold};
use crate::strategy::{Absolute, Strategy, Suppressed};

/// Limits in Redis, shared by all instances that use the same server and prefix. Cloning shares it.
///
/// [`RateLimiter::redis`](crate::RateLimiter::redis) returns it. Pass it to a layer, or use the engine's calls. A
/// decision takes at most one round trip and ends within the deadline. See [`OnStoreError`](crate::OnStoreError) for
/// outages, and [`RedisOptions`](crate::RedisOptions) for the connection.
///
/// Each key has one value in Redis, under a name like `weir:1:{7Vn2CZAg7Atqz3y_mppdsg}:api`: the prefix, a version, a
/// digest of the key, and the limit's name. The value expires by itself.
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
pub struct RedisStore(Option<Arc<Shared>>);

impl RedisStore {
    /// A store that has no Redis, and returns an error for each call.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(client: &Arc<Client>, has_deny_cache: bool, settings: &Settings) -> Result<Self, ConfigError> {
        let shared = Arc::new(Shared::new(client, has_deny_cache, settings)?);
        let returning: Weak<Shared> = Arc::downgrade(&shared);
        client.dispatcher.set_returning(returning);
        Ok(Self(Some(shared)))
    }

    /// Starts to free the memory of this instance's shares in the background.
    pub(crate) fn start_cleanup(&self) {
        self.0.iter().for_each(|shared| shared.windows.start_cleanup());
    }

    pub(crate) fn stop_cleanup(&self) {
        self.0.iter().for_each(|shared| shared.windows.stop_cleanup());
    }

    /// Limits with the absolute strategy: it admits a request that fits, and rejects the rest.
    pub fn absolute(&self) -> RedisLimits<'_, Absolute> {
        RedisLimits::new(self.0.as_ref())
    }

    /// Limits with the suppressed strategy: it sheds an overload smoothly.
    ///
    /// They share the histories of [`absolute`](Self::absolute): a key's units count for both.
    pub fn suppressed(&self) -> RedisLimits<'_, Suppressed> {
        RedisLimits::new(self.0.as_ref())
    }
}

impl fmt::Debug for RedisStore {
    /// Omits the address and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => f
                .debug_struct("Redis")
                .field("prefix", &shared.client.prefix)
                .field("on_store_error", &shared.client.on_store_error)
                .finish_non_exhaustive(),
            None => f.write_str("RedisStore(not configured)"),
        }
    }
}

impl Store for RedisStore {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = self.0.as_ref().ok_or(ConfigError::NoRedis)?;
        let limits: Arc<[Limit]> = shared.client.geometry.limits(policy)?.into();
        let new = || shared.keys_of(policy);
        let (keys, opened) = shared.named.open(policy, &limits, new)?;
        let share = match policy.on_store_error() {
            OnStoreError::LocalShare => Some(LocalShare::new(&shared.windows, Some(policy), &limits)?),
            _ => None,
        };
        Ok(Arc::new(RedisBudget {
            shared: Arc::clone(shared),
            account: LimitHandle { keys, share, policy: Arc::default() },
            limits,
            opened,
        }))
    }
}

/// One policy's limits on the keys of its name.
pub(super) struct RedisBudget {
    pub(super) shared: Arc<Shared>,
    pub(super) account: LimitHandle,
    pub(super) limits: Arc<[Limit]>,
    pub(super) opened: Arc<Policy>,
}

impl RedisBudget {
    pub(super) fn wanted<'a>(&'a self, ask: BudgetRequest<'a>) -> Wanted<'a> {
        let mode = match self.opened.strategy() {
            Strategy::Absolute => Mode::Absolute,
            Strategy::Suppressed(_) => Mode::Suppressed,
        };
        Wanted { key: ask.key, cost: ask.cost, limits: &self.limits, mode }
    }
}

impl Budget for RedisBudget {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        self.shared.decide(&self.account, &self.wanted(ask))
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        self.shared.take_back(&self.account, key, cost, decision);
    }

    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        self.shared.peek(&self.account, &self.wanted(ask))
    }

    fn set(&self, key: &[u8], count: u64, age: Duration) -> BudgetChange {
        let (shared, account, key) = (Arc::clone(&self.shared), self.account.clone(), Box::<[u8]>::from(key));
        let age = shared.client.geometry.ticks_in(age);
        // Its units are no admissions, of which a share has its own count.
        let is_ban = self.limits.iter().all(|limit| limit.capacity == 0);
        Box::pin(async move {
            if count == 0 {
                shared.forget(&account, &key).await?;
                return Ok(());
            }
            let replace = (count, SetMode::Replace { age });
            shared.set(&account.keys, &key, RateLimitComparator::Always, replace).await?;
            if let Some(share) = account.share.filter(|_| is_ban) {
                share.set(&key, count, age);
            }
            Ok(())
        })
    }

    fn hold(&self, key: &[u8], units: u64, decision: &Decision, ttl: Duration) -> Option<BudgetHold> {
        let Charge::Window { tick, .. } = decision.charge else { return None };
        let (shared, keys) = (Arc::clone(&self.shared), Arc::clone(&self.account.keys));
        let space = Arc::clone(&keys.space);
        let on_change = Box::new(move |key: &[u8]| keys.forget(key));
        let held = HeldKey { client: Arc::clone(&shared.client), keys: space, key: key.into(), on_change };
        Some(Box::pin(async move { RemoteHold::begin(held, (tick, units), ttl, &shared.names).await }))
    }

    fn record(&self, key: &[u8], units: u64) -> BudgetChange {
        let (shared, keys, key) = (Arc::clone(&self.shared), Arc::clone(&self.account.keys), Box::<[u8]>::from(key));
        Box::pin(async move { Ok(shared.client.record(&keys.space, &key, units).await.map(drop)?) })
    }

    fn holds_permits(&self) -> bool {
        self.account.keys.permits.is_some()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl fmt::Debug for RedisBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

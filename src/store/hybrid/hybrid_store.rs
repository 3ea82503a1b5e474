use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answers::Answers;
use super::calls::HybridLimits;
use super::hybrid_budget::HybridBudget;
use super::state::Shared;
use super::table::KeyTable;
use super::task;
use super::watched::WatchedBudget;
use crate::engine::Limit;
use crate::error::ConfigError;
use crate::keyspace::Settings;
use crate::lease::OwnedLimitSet;
use crate::policy::Policy;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::Client;
use crate::store::budget::{Budget, Store};
use crate::strategy::{Absolute, Strategy, Suppressed};

/// Limits in Redis, shared by all instances, with decisions from memory. Clones share the store.
///
/// [`RateLimiter::hybrid`](crate::RateLimiter::hybrid) returns it. Pass it to a layer, or use the engine's calls. It
/// uses the same values in Redis as [`RedisStore`](crate::store::RedisStore), so you can combine both for the same
/// limits.
///
/// # The bound
///
/// No window admits more than the limit (times 1 + [`Tolerance`]), with any number of instances. This holds if messages
/// are delayed or lost, and if instances crash. Redis charges a lease before the instance can spend it, and dates the
/// charge at the lease's expiry. The bound has these conditions:
///
/// - Each clock runs within 1/8 of true speed; Linux slews a clock by at most 10 %. Clocks need not show the same time.
/// - Redis keeps its data. After a loss, each instance resubmits its own admissions when it next uses a key. Until
///   then, the units that it admitted within the window may be admitted once more.
/// - [`OnStoreError`](crate::OnStoreError): during an outage, leases are spent until they expire, and then the policy
///   decides.
///
/// Units that an instance holds and does not spend return when their lease ends. Near a limit, this takes one
/// [`sync interval`](SyncIntervalMs). Far below it, this takes ten, but at most an eighth of the window and two seconds.
/// Other instances cannot use the units until then.
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
/// rl.hybrid().shutdown().await; // returns the units that this instance holds and does not spend
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HybridStore(Option<Arc<Shared>>);

impl HybridStore {
    /// A store without Redis, whose calls return an error.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(
        client: &Arc<Client>,
        direct: Arc<dyn Store>,
        settings: &Settings,
        interval: SyncIntervalMs,
        tolerance: Tolerance,
    ) -> Result<Self, ConfigError> {
        Shared::new(client, direct, settings, interval, tolerance).map(|shared| Self(Some(Arc::new(shared))))
    }

    /// Limits with the absolute strategy: it admits a request that fits, and rejects the rest.
    pub fn absolute(&self) -> HybridLimits<'_, Absolute> {
        HybridLimits::new(self.0.as_ref())
    }

    /// Limits with the suppressed strategy: it sheds an overload smoothly.
    ///
    /// They share the histories of [`absolute`](Self::absolute): a key's units count for both.
    pub fn suppressed(&self) -> HybridLimits<'_, Suppressed> {
        HybridLimits::new(self.0.as_ref())
    }

    /// Returns all units that are held and not spent, so that other instances can use them at once.
    ///
    /// Without this call, they return when their leases end. Afterwards this instance holds no leases, and calls Redis
    /// for each decision.
    pub async fn shutdown(&self) {
        if let Some(shared) = &self.0 {
            shared.is_closed.store(true, Ordering::SeqCst);
            task::give_back(shared).await;
        }
    }

    /// The number of keys for which this instance keeps a state, over all limits.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.tables().iter().map(|table| table.len()).sum())
    }
}

impl fmt::Debug for HybridStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => f
                .debug_struct("Hybrid")
                .field("sync_interval_ms", &shared.params.interval_ms)
                .field("tolerance", &shared.tolerance)
                .finish_non_exhaustive(),
            None => f.write_str("HybridStore(not configured)"),
        }
    }
}

impl Store for HybridStore {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let shared = self.0.as_ref().ok_or(ConfigError::NoRedis)?;
        if policy.is_in_flight() {
            // An instance that held permits in advance would keep them from the others.
            return shared.direct.open(policy);
        }
        let limits: Arc<[Limit]> = shared.redis.geometry.limits(policy)?.into();
        let here: Vec<Limit> = limits.iter().map(|limit| shared.params.geometry.with_lag(*limit)).collect();
        let new = || KeyTable::new(shared.redis.keyspace(Some(policy.name())), Some(policy.name()), shared.max_keys);
        let (table, opened) = shared.named.open(policy, &here, new)?;
        let is_suppressed = matches!(policy.strategy(), Strategy::Suppressed(_));
        let limits = OwnedLimitSet::new(limits, is_suppressed, shared.tolerance);
        let glances = Arc::<Answers>::default();
        let budget = HybridBudget { shared: Arc::clone(shared), table, limits, opened, glances };
        let is_empty = policy.quotas().iter().all(|quota| quota.count() == 0);
        Ok(if is_empty { Arc::new(WatchedBudget::new(budget)) } else { Arc::new(budget) })
    }
}

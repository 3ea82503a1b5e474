use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls::HybridLimits;
use super::state::{Shared, Wanted};
use super::table::KeyTable;
use super::task;
use crate::correction::RateLimitComparator;
use crate::decision::{Charge, Decision};
use crate::engine::{Limit, SetMode};
use crate::error::ConfigError;
use crate::keyspace::Settings;
use crate::lease::{KeyState, OwnedLimitSet};
use crate::policy::Policy;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::{Client, OnDrop};
use crate::runtime;
use crate::script::Correction;
use crate::store::budget::{Budget, BudgetChange, BudgetRequest, BudgetResponse, Store};
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
        settings: &Settings,
        interval: SyncIntervalMs,
        tolerance: Tolerance,
    ) -> Result<Self, ConfigError> {
        Shared::new(client, settings, interval, tolerance).map(|shared| Self(Some(Arc::new(shared))))
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
        let limits: Arc<[Limit]> = shared.redis.geometry.limits(policy)?.into();
        let here: Vec<Limit> = limits.iter().map(|limit| shared.params.geometry.with_lag(*limit)).collect();
        let new = || KeyTable::new(shared.redis.keyspace(Some(policy.name())), shared.max_keys);
        let (table, opened) = shared.named.open(policy, &here, new)?;
        let is_suppressed = matches!(policy.strategy(), Strategy::Suppressed(_));
        let limits = OwnedLimitSet::new(limits, is_suppressed, shared.tolerance);
        Ok(Arc::new(HybridBudget { shared: Arc::clone(shared), table, limits, opened }))
    }
}

/// One policy's limits on the keys of its name.
struct HybridBudget {
    shared: Arc<Shared>,
    table: Arc<KeyTable>,
    limits: OwnedLimitSet,
    opened: Arc<Policy>,
}

impl Budget for HybridBudget {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        let on_store_error = self.opened.on_store_error();
        let wanted = Wanted { key: ask.key, cost: ask.cost, limits: self.limits.borrow(), on_store_error };
        self.shared.decide(&self.table, &wanted, || self.limits.clone())
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        let (table, print) = (&self.table, self.table.fingerprint(key));
        let Charge::Window { tick, units } = decision.charge else {
            table.with(print, |state: &mut KeyState| state.refund(cost, decision.charge, &table.here));
            return;
        };
        let units = cost.min(units);
        if units == 0 {
            return;
        }
        let (shared, table, key) = (Arc::clone(&self.shared), Arc::clone(table), Box::<[u8]>::from(key));
        let refund = Correction::Refund { stamp: tick, units };
        let _ = runtime::spawn(async move {
            // Redis may have applied it even if no reply arrived.
            let _changed = OnDrop(|| {
                table.with(print, KeyState::clear_refusals);
            });
            let _ = shared.redis.correct(&table.keys, &key, refund).await;
        });
    }

    fn set(&self, key: &[u8], count: u64) -> BudgetChange {
        let (shared, table, key) = (Arc::clone(&self.shared), Arc::clone(&self.table), Box::<[u8]>::from(key));
        Box::pin(async move {
            match count {
                0 => shared.forget(&table, &key).await.map(drop)?,
                _ => {
                    shared.set(&table, &key, RateLimitComparator::Always, (count, SetMode::Replace)).await.map(drop)?;
                }
            }
            Ok(())
        })
    }

    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        let (now, print) = (self.shared.time.now_ms(), self.table.fingerprint(ask.key));
        // A key that is known here may hold units for this instance, which Redis counts as used.
        if ask.cost <= 1
            && let Some(Some(decision)) =
                self.table.with(print, |state| state.peek(now, &self.limits.borrow(), &self.shared.params))
        {
            return BudgetResponse::Ready(Ok(decision));
        }
        let (shared, table, limits) = (Arc::clone(&self.shared), Arc::clone(&self.table), self.limits.clone());
        let (key, cost) = (Box::<[u8]>::from(ask.key), ask.cost);
        BudgetResponse::Pending(Box::pin(async move {
            let decision = shared.redis.look_at_cap(&table.keys, &key, cost, &limits.scaled).await?;
            Ok(limits.unscale(decision))
        }))
    }
}

impl fmt::Debug for HybridBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

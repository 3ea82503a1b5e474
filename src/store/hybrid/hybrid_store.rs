use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls::HybridLimits;
use super::state::{Shared, Wanted};
use super::table::KeyTable;
use super::task;
use crate::decision::Decision;
use crate::engine::Limit;
use crate::error::ConfigError;
use crate::keyspace::Settings;
use crate::lease::{KeyState, OwnedLimitSet};
use crate::policy::Policy;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::{Client, OnDrop};
use crate::runtime;
use crate::script::Correction;
use crate::store::budget::{Budget, BudgetRequest, BudgetResponse, Store};
use crate::strategy::{Absolute, Strategy, Suppressed};

/// Limits in Redis, shared by all instances, and decided on in memory. Cloning shares it.
///
/// [`RateLimiter::hybrid`](crate::RateLimiter::hybrid) gives it. It is a store for layers, and has the engine's
/// calls. It counts in the same values as [`RedisStore`](crate::store::RedisStore), so both may be used side by side for the same limits.
///
/// # The bound
///
/// In no window more is admitted than the limit (times 1 + [`Tolerance`]), by any number of instances, however
/// messages are delayed or lost and whichever instance dies. Units are charged in Redis before an instance may
/// spend them, as of the last instant at which it may. What that rests on:
///
/// - each clock runs within 1/8 of true speed (Linux slews by at most 10 %); clocks need not show the same time
/// - Redis loses nothing: where it does, what instances have admitted within the window and not brought back
///   yet may be admitted once more, since each brings its own back when it next comes to a key
/// - [`OnStoreError`](crate::OnStoreError): while Redis is gone leases are spent to their end, and then the policy decides
///
/// Units that an instance holds and does not spend come back when their lease ends: near a limit after one
/// [`sync interval`](SyncIntervalMs), far below it after ten, at most an eighth of the window and two seconds. Other
/// instances cannot use them until then.
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
pub struct HybridStore(Option<Arc<Shared>>);

impl HybridStore {
    /// A store that has no Redis, and says so.
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

    /// Requests decided by the absolute strategy: what fits is admitted, the rest rejected.
    pub fn absolute(&self) -> HybridLimits<'_, Absolute> {
        HybridLimits::new(self.0.as_ref())
    }

    /// Requests decided by the suppressed strategy: an overload is thinned smoothly.
    ///
    /// It shares the histories of [`absolute`](Self::absolute): a key's units count for both.
    pub fn suppressed(&self) -> HybridLimits<'_, Suppressed> {
        HybridLimits::new(self.0.as_ref())
    }

    /// Gives back all units that are held and not spent, so that the other instances have them at once.
    ///
    /// Without it they come back when their leases end. From then on nothing is held any more, and each decision
    /// asks Redis.
    pub async fn shutdown(&self) {
        if let Some(shared) = &self.0 {
            shared.is_closed.store(true, Ordering::SeqCst);
            task::give_back(shared).await;
        }
    }

    /// The number of keys of which this instance knows something, over all limits.
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
        let units = cost.min(decision.charged);
        if units == 0 {
            return;
        }
        let (shared, table, print) = (&self.shared, &self.table, self.table.fingerprint(key));
        if decision.is_from_lease || decision.is_local_share {
            table.with(print, |state: &mut KeyState| state.refund(units, decision, &table.here));
            return;
        }
        let (shared, table, key) = (Arc::clone(shared), Arc::clone(table), Box::<[u8]>::from(key));
        let refund = Correction::Refund { stamp: decision.stamp, units };
        let _ = runtime::spawn(async move {
            // Even where no answer came it may have been done.
            let _changed = OnDrop(|| {
                table.with(print, KeyState::clear_refusals);
            });
            let _ = shared.redis.correct(&table.keys, &key, refund).await;
        });
    }
}

impl fmt::Debug for HybridBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

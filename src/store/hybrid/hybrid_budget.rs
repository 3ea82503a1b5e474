use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::{Answer, Answers};
use super::state::{Shared, Wanted};
use super::table::KeyTable;
use crate::correction::RateLimitComparator;
use crate::decision::{Charge, Decision};
use crate::engine::SetMode;
use crate::error::StoreError;
use crate::lease::{KeyState, OwnedLimitSet};
use crate::policy::{OnStoreError, Policy};
use crate::redis::OnDrop;
use crate::runtime;
use crate::store::budget::{Budget, BudgetChange, BudgetHold, BudgetRequest, BudgetResponse};
use crate::store::remote_hold::{HeldKey, RemoteHold};

/// One policy's limits on the keys of its name.
#[derive(Clone)]
pub(super) struct HybridBudget {
    pub(super) shared: Arc<Shared>,
    pub(super) table: Arc<KeyTable>,
    pub(super) limits: OwnedLimitSet,
    pub(super) opened: Arc<Policy>,
    /// Looks at keys of which this instance has no state.
    pub(super) glances: Arc<Answers>,
}

/// The age up to which a look at a key is used again, for requests that other limits refuse.
const GLANCE: Duration = Duration::from_millis(50);

impl HybridBudget {
    /// The decision of Redis, without a charge and without this instance's state.
    pub(super) async fn look(&self, key: &[u8], cost: u64) -> Result<Decision, StoreError> {
        let decision = self.shared.redis.look_at_cap(&self.table.keys, key, cost, &self.limits.scaled).await?;
        Ok(self.limits.unscale(decision))
    }

    pub(super) fn on_store_error(&self) -> OnStoreError {
        self.opened.on_store_error()
    }
}

impl Budget for HybridBudget {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        let on_store_error = self.opened.on_store_error();
        let is_leased = !self.opened.is_settled();
        let wanted = Wanted { key: ask.key, cost: ask.cost, limits: self.limits.borrow(), on_store_error, is_leased };
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
        let _ = runtime::spawn(async move { shared.refund(&table, &key, tick, units).await });
    }

    fn set(&self, key: &[u8], count: u64, age: Duration) -> BudgetChange {
        let (shared, table, key) = (Arc::clone(&self.shared), Arc::clone(&self.table), Box::<[u8]>::from(key));
        let replace = SetMode::Replace { age: shared.redis.geometry.ticks_in(age) };
        let glances = Arc::clone(&self.glances);
        Box::pin(async move {
            let _changed = OnDrop(|| glances.forget(table.fingerprint(&key)));
            match count {
                0 => shared.forget(&table, &key).await.map(drop)?,
                _ => {
                    shared.set(&table, &key, RateLimitComparator::Always, (count, replace)).await.map(drop)?;
                }
            }
            Ok(())
        })
    }

    fn hold(&self, key: &[u8], units: u64, decision: &Decision, ttl: Duration) -> Option<BudgetHold> {
        let Charge::Window { tick, .. } = decision.charge else { return None };
        let (shared, table) = (Arc::clone(&self.shared), Arc::clone(&self.table));
        let (client, keys) = (Arc::clone(&shared.redis), Arc::clone(&table.keys));
        let on_change = Box::new(move |key: &[u8]| {
            table.with(table.fingerprint(key), KeyState::clear_refusals);
        });
        let held = HeldKey { client, keys, key: key.into(), on_change };
        Some(Box::pin(async move { RemoteHold::begin(held, (tick, units), ttl, &shared.names).await }))
    }

    fn record(&self, key: &[u8], units: u64) -> BudgetChange {
        let (shared, table, key) = (Arc::clone(&self.shared), Arc::clone(&self.table), Box::<[u8]>::from(key));
        Box::pin(async move { Ok(shared.redis.record(&table.keys, &key, units).await.map(drop)?) })
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
        // A flood that another limit refuses must not become one call for each request.
        if ask.cost > 0
            && let Some((answer, now)) = self.glances.get(print, ask.cost, GLANCE)
        {
            return BudgetResponse::Ready(Ok(answer.at(now)));
        }
        let (budget, key, cost) = (self.clone(), Box::<[u8]>::from(ask.key), ask.cost);
        BudgetResponse::Pending(Box::pin(async move {
            let asked = Instant::now();
            let decision = budget.look(&key, cost).await?;
            budget.glances.insert(print, Answer::new(asked, cost, decision));
            Ok(decision)
        }))
    }
}

impl fmt::Debug for HybridBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

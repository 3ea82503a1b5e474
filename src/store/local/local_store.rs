use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::calls::LocalLimits;
use super::hold::LocalHold;
use crate::correction::RateLimitComparator;
use crate::decision::{Charge, Decision};
use crate::engine::{Limit, Outcome, SetMode};
use crate::error::{ConfigError, StoreError, StoreErrorKind};
use crate::keyspace::{Place, Settings, Step, WindowTable, Windows};
use crate::policy::Policy;
use crate::store::budget::{Budget, BudgetChange, BudgetHold, BudgetRequest, BudgetResponse, Hold, Store};
use crate::strategy::{Absolute, Strategy, Suppressed};
#[cfg(feature = "middleware")]
use crate::time::TimeSource;

/// A local store: the engine's limits in this process, and a store for layers. Clones share its state.
///
/// See [`RateLimiter::local`](crate::RateLimiter::local).
#[derive(Clone)]
pub struct LocalStore(pub(super) Arc<Windows>);

impl LocalStore {
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        Windows::new(settings, "local").map(Self)
    }

    /// Limits with the absolute strategy: they admit requests that fit and reject the rest.
    #[inline]
    pub fn absolute(&self) -> LocalLimits<'_, Absolute> {
        LocalLimits::new(&self.0)
    }

    /// Limits with the suppressed strategy: they thin an overload smoothly.
    ///
    /// They share the histories of [`absolute`](Self::absolute): a key's units count for both.
    #[inline]
    pub fn suppressed(&self) -> LocalLimits<'_, Suppressed> {
        LocalLimits::new(&self.0)
    }

    /// The number of keys that the store retains, over all limits.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.keys()
    }

    pub(crate) fn start_cleanup(&self) {
        self.0.start_cleanup();
    }

    pub(crate) fn stop_cleanup(&self) {
        self.0.stop_cleanup();
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore")
            .field("clock", &self.0.time)
            .field("bucket_ms", &self.0.geometry.bucket_ms())
            .field("max_keys", &self.0.max_keys)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

impl Store for LocalStore {
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        let windows = &self.0;
        let limits = windows.geometry.limits(policy)?;
        let (table, opened) = windows.open(policy, &limits)?;
        let (windows, is_suppressed) = (Arc::clone(windows), policy.strategy() != Strategy::Absolute);
        Ok(Arc::new(LocalBudget { windows, table, limits, is_suppressed, opened }))
    }
}

/// One policy's limits on one of the store's tables.
pub(super) struct LocalBudget {
    windows: Arc<Windows>,
    table: Arc<WindowTable>,
    limits: Box<[Limit]>,
    is_suppressed: bool,
    opened: Arc<Policy>,
}

impl LocalBudget {
    pub(super) fn now_ms(&self) -> u64 {
        self.windows.time.now_ms()
    }

    pub(super) fn shares_clock(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.windows, &other.windows)
    }

    /// This budget's part of a decision on several limits.
    pub(super) fn step(&self, key: &[u8], now_ms: u64) -> Step<'_> {
        let now = self.windows.geometry.at(now_ms);
        Step::new(&self.table, key, now, &self.limits, self.is_suppressed)
    }

    pub(super) fn decision(&self, outcome: &Outcome, place: Place, charged: u64, now_ms: u64) -> Decision {
        let decision = self.windows.geometry.decision(outcome, charged, &self.limits, now_ms);
        Decision { is_overflow: place == Place::Shared, ..decision }
    }
}

/// The clock of a budget of a local store.
#[cfg(feature = "middleware")]
pub(crate) fn clock(budget: &Arc<dyn Budget>) -> Option<TimeSource> {
    let budget = budget.as_any()?.downcast_ref::<LocalBudget>()?;
    Some(budget.windows.time.clone())
}

impl Budget for LocalBudget {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        BudgetResponse::Ready(Ok(self.windows.decide(&self.table, ask.key, ask.cost, &self.limits, self.is_suppressed)))
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        if let Charge::Window { tick, units } = decision.charge {
            if self.table.holds_permits() {
                let place = if decision.is_overflow { Place::Shared } else { Place::Own };
                return self.windows.release(&self.table, key, cost.min(units), tick, place);
            }
            self.windows.refund(&self.table, key, cost.min(units), tick);
        }
    }

    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        BudgetResponse::Ready(Ok(self.windows.look(&self.table, ask.key, ask.cost, &self.limits, self.is_suppressed)))
    }

    fn set(&self, key: &[u8], count: u64, age: Duration) -> BudgetChange {
        let (always, span) = (RateLimitComparator::Always, self.table.longest_span());
        let replace = SetMode::Replace { age: self.windows.geometry.ticks_in(age) };
        let outcome = self.windows.set(&self.table, key, always, (count, replace), span);
        // A full table forgets an unknown key in any case.
        let is_set = outcome.matched || count == 0;
        let full = || StoreError::new(StoreErrorKind::Unavailable, "the store is full, and does not know the key");
        Box::pin(std::future::ready(if is_set { Ok(()) } else { Err(full()) }))
    }

    fn hold(&self, key: &[u8], units: u64, decision: &Decision, ttl: Duration) -> Option<BudgetHold> {
        let Charge::Window { tick, .. } = decision.charge else { return None };
        let hold = LocalHold::new(&self.windows, &self.table, key, (tick, units), ttl);
        Some(Box::pin(std::future::ready(Ok::<Box<dyn Hold>, _>(Box::new(hold)))))
    }

    fn record(&self, key: &[u8], units: u64) -> BudgetChange {
        self.windows.record(&self.table, key, units);
        Box::pin(std::future::ready(Ok(())))
    }

    fn holds_permits(&self) -> bool {
        self.table.holds_permits()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl fmt::Debug for LocalBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBudget").field("policy", &self.opened).finish_non_exhaustive()
    }
}

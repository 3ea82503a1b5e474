//! The traits of a store, and the requests and responses of a budget.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::decision::Decision;
use crate::error::{ConfigError, StoreError, StoreErrorKind};
use crate::policy::Policy;

/// A place that keeps histories.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for a rate limit",
    label = "not a `Store`",
    note = "pass a handle of a `RateLimiter`, such as `limiter.local()`, or implement `Store` for a type of your own"
)]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Opens the budgets of a policy.
    ///
    /// The layer calls this in its `build`. For quotas that depend on the request, it calls this when they are first needed.
    /// Budgets of policies with the same name share their histories.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the store does not support the policy.
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError>;
}

/// The budgets of one policy, one for each key.
pub trait Budget: fmt::Debug + Send + Sync + 'static {
    /// Decides on a request and charges it if it is admitted. It charges all quotas or none.
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse;

    /// Returns up to `cost` units that an earlier decision charged. It is best effort and does not wait.
    ///
    /// A store that must do I/O queues the refund. Units that have left the window are not returned. Refund a decision
    /// at most once.
    fn refund(&self, key: &[u8], cost: u64, decision: &Decision);

    /// Returns the decision that the budget would make on a request, and charges nothing.
    ///
    /// A layer with several limits asks the others if one refuses, so that the request's wait is the longest of all. By
    /// the suppressed strategy, only the hard cap counts. The default finds room in any case.
    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        let _ = ask;
        BudgetResponse::Ready(Ok(Decision::allowed(u64::MAX, 0)))
    }

    /// Sets the key's units in use for all budgets with the policy's name. With 0 it forgets the key.
    ///
    /// The units are dated `age` ago, so they leave each window that much earlier. It checks no limit, so `count` may be
    /// above it; it is capped at 2^39. The default is an error.
    fn set(&self, key: &[u8], count: u64, age: Duration) -> BudgetChange {
        let _ = (key, count, age);
        let error = StoreError::new(StoreErrorKind::NotConfigured, "this store cannot set the units of a key");
        Box::pin(std::future::ready(Err(error)))
    }

    /// Holds units that a decision charged, so that they can be spent for `ttl`; returns `None` if the store cannot.
    ///
    /// A spent unit then counts for a window from the instant at which it was spent, and not from the decision. Units
    /// that are not spent return when the hold is dropped. `units` is at most what the decision charged.
    fn hold(&self, key: &[u8], units: u64, decision: &Decision, ttl: Duration) -> Option<BudgetHold> {
        let _ = (key, units, decision, ttl);
        None
    }

    /// Charges units that were used although they did not fit. The default is an error.
    fn record(&self, key: &[u8], units: u64) -> BudgetChange {
        let _ = (key, units);
        let error = StoreError::new(StoreErrorKind::NotConfigured, "this store cannot charge units beyond a limit");
        Box::pin(std::future::ready(Err(error)))
    }

    /// Whether each unit counts until it is refunded, however long that takes, for a policy that
    /// [caps requests in flight](Policy::is_in_flight).
    ///
    /// With the default, which is no, a layer with such a limit is not built.
    fn holds_permits(&self) -> bool {
        false
    }

    /// The budget itself, if its store can decide on several budgets in one step.
    #[doc(hidden)]
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// Units that a decision charged, and that are spent over time; see [`Budget::hold`].
///
/// Each unit counts from before it is spent until a window after it. When the hold is dropped, the rest is free again.
pub trait Hold: fmt::Debug + Send + Sync {
    /// Spends units now. Returns false, and spends none, if fewer are left, or if the time of the hold is over.
    fn spend(&mut self, units: u64) -> bool;

    /// The units that are not spent.
    fn left(&self) -> u64;

    /// Frees the rest. The future completes when the store knows; without it, the store is informed in the background.
    fn end(&mut self) -> BudgetChange;
}

/// A hold of units, after I/O. If it fails, or is dropped, the units are free again.
pub type BudgetHold = Pin<Box<dyn Future<Output = Result<Box<dyn Hold>, StoreError>> + Send>>;

/// A change of a key's history. It is applied when the future completes; a future that is dropped may have changed it.
pub type BudgetChange = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A request to a budget.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct BudgetRequest<'a> {
    /// The key's injective bytes.
    pub key: &'a [u8],
    /// The units that the request costs. A cost of 0 charges nothing.
    pub cost: u64,
}

impl<'a> BudgetRequest<'a> {
    /// Creates a request for `cost` units of a key.
    #[must_use]
    pub fn new(key: &'a [u8], cost: u64) -> Self {
        Self { key, cost }
    }
}

impl fmt::Debug for BudgetRequest<'_> {
    /// Shows only the length of the key, because a key may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetRequest").field("key_len", &self.key.len()).field("cost", &self.cost).finish()
    }
}

/// The response of a budget, immediate or after I/O.
pub enum BudgetResponse {
    /// The decision is complete.
    Ready(Result<Decision, StoreError>),
    /// The decision needs I/O. The future must not depend on a particular runtime's thread.
    Pending(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>),
}

impl BudgetResponse {
    /// Waits until the decision is complete.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot decide.
    pub async fn complete(self) -> Result<Decision, StoreError> {
        match self {
            Self::Ready(result) => result,
            Self::Pending(pending) => pending.await,
        }
    }
}

impl fmt::Debug for BudgetResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

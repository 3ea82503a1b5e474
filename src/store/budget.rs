//! The traits of a store, and what a budget is asked and answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::decision::Decision;
use crate::error::{ConfigError, StoreError};
use crate::policy::Policy;

/// A place where histories are kept.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Opens the budgets of a policy; called once, when a layer is built.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] where the store cannot hold such a policy.
    fn open(&self, policy: &Policy) -> Result<Arc<dyn Budget>, ConfigError>;
}

/// The budgets of one policy, one for each key.
pub trait Budget: fmt::Debug + Send + Sync + 'static {
    /// Decides on a request, and charges it if it is admitted: to all quotas or to none.
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse;

    /// Takes back up to `cost` units that an earlier decision charged; best effort, and at once.
    ///
    /// A store that must do I/O queues it. Units that have left the window stay gone, and a decision is to be
    /// taken back once.
    fn refund(&self, key: &[u8], cost: u64, decision: &Decision);
}

/// What a budget is asked.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct BudgetRequest<'a> {
    /// The key's injective bytes.
    pub key: &'a [u8],
    /// The units that the request costs; 0 only looks.
    pub cost: u64,
}

impl<'a> BudgetRequest<'a> {
    /// Asks for `cost` units of a key.
    #[must_use]
    pub fn new(key: &'a [u8], cost: u64) -> Self {
        Self { key, cost }
    }
}

impl fmt::Debug for BudgetRequest<'_> {
    /// Keys may be secret: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetRequest").field("key_len", &self.key.len()).field("cost", &self.cost).finish()
    }
}

/// A budget's answer: at once, or after I/O.
pub enum BudgetResponse {
    /// Decided.
    Ready(Result<Decision, StoreError>),
    /// To be awaited; must not depend on any particular runtime's thread.
    Pending(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>),
}

impl fmt::Debug for BudgetResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

//! The seam between a limit and where its history is kept: [`Store`] and [`Budget`].
//!
//! Implement the two traits to keep limits somewhere of your own; the layer takes any store.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::decision::Decision;
use crate::error::{ConfigError, StoreError};
use crate::quota::{HardLimitFactor, Quota};

/// How requests over the limit are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Strategy {
    /// What fits is admitted and the rest rejected, with the exact time of the next chance.
    #[default]
    Absolute,
    /// An overload is thinned smoothly to the limit, and never passes the limit times this factor.
    Suppressed(HardLimitFactor),
}

/// What happens to a request on which a store cannot decide: Redis is down, slow, or refuses to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// This instance goes on alone with its part of the limit: the limit divided by the number of instances,
    /// at least 1 where the limit is not 0, on a history that was kept of its own admissions.
    ///
    /// While Redis is down at most the sum of the parts is admitted in any window by all instances. Added to that
    /// is, in the window in which it went down, what the others had admitted, and in the one in which it comes
    /// back what it admits, since it is not told of the parts. A store of one's own that has no such part refuses,
    /// as with [`Reject`](Self::Reject).
    #[default]
    LocalShare,
    /// It is refused, with 503 where a layer answers.
    Reject,
    /// It passes without a limit.
    Admit,
}

/// One limit as it is opened in a store: a name, one or more quotas, and a strategy.
///
/// Name and key identify a history. Two policies that share a store and a name share their budgets, and
/// their quotas then apply to the same history.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    quotas: Arc<[Quota]>,
    strategy: Strategy,
    on_store_error: OnStoreError,
}

impl Policy {
    /// The name of a limit that was given none.
    pub(crate) const UNNAMED: &str = "default";

    /// Creates a policy; all its quotas must hold for a request to be admitted.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, quotas: impl Into<Arc<[Quota]>>, strategy: Strategy) -> Self {
        let on_store_error = OnStoreError::default();
        Self { name: name.into(), quotas: quotas.into(), strategy, on_store_error }
    }

    /// Sets what happens where the store cannot decide; default [`OnStoreError::LocalShare`].
    #[must_use]
    pub fn with_on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// What happens where the store cannot decide.
    #[must_use]
    pub fn on_store_error(&self) -> OnStoreError {
        self.on_store_error
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quotas.
    #[must_use]
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }
}

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
    fn decide(&self, ask: Ask<'_>) -> Answer;

    /// Takes back up to `cost` units that an earlier decision charged; best effort, and at once.
    ///
    /// A store that must do I/O queues it. Units that have left the window stay gone, and a decision is to be
    /// taken back once.
    fn refund(&self, key: &[u8], cost: u64, decision: &Decision);
}

/// What a budget is asked.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// The key's injective bytes.
    pub key: &'a [u8],
    /// The units that the request costs; 0 only looks.
    pub cost: u64,
}

impl<'a> Ask<'a> {
    /// Asks for `cost` units of a key.
    #[must_use]
    pub fn new(key: &'a [u8], cost: u64) -> Self {
        Self { key, cost }
    }
}

impl fmt::Debug for Ask<'_> {
    /// Keys may be secret: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("key_len", &self.key.len()).field("cost", &self.cost).finish()
    }
}

/// A budget's answer: at once, or after I/O.
pub enum Answer {
    /// Decided.
    Ready(Result<Decision, StoreError>),
    /// To be awaited; must not depend on any particular runtime's thread.
    Pending(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

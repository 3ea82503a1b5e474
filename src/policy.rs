//! One limit as a store sees it: a name, quotas, a strategy, and what happens if the store fails.

use std::sync::Arc;

use crate::quota::Quota;
use crate::strategy::Strategy;

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
    Allow,
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

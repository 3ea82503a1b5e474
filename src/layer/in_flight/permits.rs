use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use crate::decision::Decision;
use crate::store::Budget;
use crate::telemetry::{InFlight, LimitWatch};

/// The permits of a request, for limits that cap the [requests in flight](crate::Limit::in_flight). Clones hold the same
/// permits.
///
/// The request is in flight until its response has ended, and all clones are dropped. A handler that upgrades its
/// connection moves them into the task that serves it; see
/// [`RateLimitHandle::permits`](crate::layer::RateLimitHandle::permits).
#[derive(Clone, Default)]
#[must_use = "the request ends with its response, unless a task holds its permits"]
pub struct Permits(Option<Arc<[Permit]>>);

/// Permits that end with their request.
#[derive(Clone, Default)]
pub(in crate::layer) struct WeakPermits(Option<Weak<[Permit]>>);

/// One permit. Its drop returns it.
pub(in crate::layer) struct Permit {
    budget: Arc<dyn Budget>,
    key: Box<[u8]>,
    decision: Decision,
    _in_flight: InFlight,
}

impl Permit {
    /// The permit that a decision of a budget charged.
    pub(in crate::layer) fn new(budget: &Arc<dyn Budget>, key: &[u8], decision: Decision, watch: &LimitWatch) -> Self {
        Self { budget: Arc::clone(budget), key: key.into(), decision, _in_flight: watch.in_flight() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The drop of a response must not end the process, whatever a store of the user does.
        let _ = catch_unwind(AssertUnwindSafe(|| self.budget.refund(&self.key, 1, &self.decision)));
    }
}

impl Permits {
    pub(in crate::layer) fn new(permits: Vec<Permit>) -> Self {
        Self((!permits.is_empty()).then(|| permits.into()))
    }

    /// Whether there is none, because no cap applies to the request.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(in crate::layer) fn downgrade(&self) -> WeakPermits {
        WeakPermits(self.0.as_ref().map(Arc::downgrade))
    }
}

impl WeakPermits {
    /// The permits, unless the request has ended.
    pub(in crate::layer) fn upgrade(&self) -> Permits {
        Permits(self.0.as_ref().and_then(Weak::upgrade))
    }
}

impl fmt::Debug for Permits {
    /// Omits the keys, because they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("count", &self.0.as_ref().map_or(0, |permits| permits.len())).finish()
    }
}

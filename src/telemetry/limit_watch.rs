//! Reports the decisions of one limit, to the features that are on. Without any, it is empty.

use std::fmt;
use std::sync::Arc;

use super::decision_event::{DecisionReason, Seen};
use super::limit_metrics::LimitMetrics;
use super::limit_trace::LimitTrace;
use crate::decision::Decision;

/// See the module documentation. Clones report the same limit.
#[derive(Clone, Debug)]
pub(crate) struct LimitWatch {
    metrics: LimitMetrics,
    trace: LimitTrace,
}

/// A request in flight; see [`LimitWatch::in_flight`].
#[derive(Debug)]
pub(crate) struct InFlight(LimitMetrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.permit_returned();
    }
}

impl LimitWatch {
    /// Whether it reports anything.
    pub(crate) const IS_ON: bool = LimitMetrics::IS_ON || LimitTrace::IS_ON;

    /// Reports a limit by its name; `refusal` is the usual reason of its refusals.
    pub(crate) fn new(policy: &Arc<str>, refusal: DecisionReason) -> Self {
        let policy = Some(policy);
        Self { metrics: LimitMetrics::new(policy, refusal), trace: LimitTrace::new(policy) }
    }

    /// Reports the requests that no limit decides.
    pub(crate) fn of_rules() -> Self {
        Self { metrics: LimitMetrics::new(None, DecisionReason::Denied), trace: LimitTrace::new(None) }
    }

    /// Reports the decision of the only limit of a request, which is enforced.
    #[inline]
    pub(crate) fn see_only(&self, decision: &Decision) {
        if Self::IS_ON {
            let seen = Seen::of(decision, true);
            self.count(seen, Some(decision));
            self.trace.record(seen);
        }
    }

    /// Reports what is decided without a store.
    #[cold]
    pub(crate) fn see(&self, admits: bool, is_enforced: bool, reason: DecisionReason) {
        let seen = Seen::new(admits, is_enforced, reason);
        self.count(seen, None);
        self.record(seen);
    }

    /// Counts a decision.
    #[inline]
    pub(crate) fn count(&self, seen: Seen, decision: Option<&Decision>) {
        self.metrics.count(seen, decision.map_or(0.0, Decision::suppression_factor));
        self.trace.see(seen);
    }

    /// Counts a request that holds a permit, until the value is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.metrics.permit_taken();
        InFlight(self.metrics.clone())
    }

    /// Reports a metered response that ended before its end.
    #[cold]
    pub(crate) fn response_cut(&self) {
        self.metrics.response_cut();
        self.trace.response_cut();
    }

    /// Reports a new mode of the limit.
    pub(crate) fn mode_changed(&self, mode: &dyn fmt::Display) {
        self.trace.mode_changed(mode);
    }

    /// Adds a decision to the current span. Of several limits, one is added.
    #[inline]
    pub(crate) fn record(&self, seen: Seen) {
        self.trace.record(seen);
    }
}

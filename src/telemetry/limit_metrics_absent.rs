//! Counts nothing, without the feature `metrics`.

use std::sync::Arc;

use super::decision_event::{DecisionReason, Seen};

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct LimitMetrics;

impl LimitMetrics {
    pub(super) const IS_ON: bool = false;

    pub(super) fn new(_: Option<&Arc<str>>, _: DecisionReason) -> Self {
        Self
    }

    #[inline(always)]
    pub(super) fn count(&self, _: Seen, _: f64) {}

    pub(super) fn permit_taken(&self) {}

    pub(super) fn permit_returned(&self) {}

    pub(super) fn response_cut(&self) {}
}

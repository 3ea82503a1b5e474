//! Records nothing, without the feature `tracing`.

use std::fmt;
use std::sync::Arc;

use super::decision_event::Seen;

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct LimitTrace;

impl LimitTrace {
    pub(super) const IS_ON: bool = false;

    pub(super) fn new(_: Option<&Arc<str>>) -> Self {
        Self
    }

    pub(super) fn mode_changed(&self, _: &dyn fmt::Display) {}

    #[inline(always)]
    pub(super) fn see(&self, _: Seen) {}

    pub(super) fn response_cut(&self) {}

    #[inline(always)]
    pub(super) fn record(&self, _: Seen) {}
}

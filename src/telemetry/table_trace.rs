//! Writes an event when a limit runs out of room for keys, and when it has room again.

/// The target of the events.
const TARGET: &str = "tower_weir::limit";

/// See the module documentation.
#[derive(Debug)]
pub(super) struct TableTrace(Box<str>);

impl TableTrace {
    pub(super) fn new(policy: Option<&str>) -> Self {
        Self(policy.unwrap_or_default().into())
    }

    pub(super) fn overflow_began(&self) {
        tracing::warn!(target: TARGET, { rate_limit.policy = &*self.0 }, "overflow began: new keys share budgets");
    }

    pub(super) fn overflow_ended(&self) {
        tracing::info!(target: TARGET, { rate_limit.policy = &*self.0 }, "overflow ended: new keys have budgets again");
    }
}

//! A decision on several budgets of one Redis store in one step.

use crate::store::part::{Part, PendingDecisions};

/// Returns `None` if a part belongs to another store, or the keys are not on one server.
pub(crate) fn decide_together(_parts: &[Part<'_>]) -> Option<PendingDecisions> {
    None
}

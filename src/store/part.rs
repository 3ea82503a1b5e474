//! A decision on several limits: what is asked of each, and the result.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::budget::{Budget, BudgetRequest};
use crate::decision::Decision;

/// The most limits of one decision.
pub const MAX_LIMITS: usize = 8;

/// One limit's part of a request with several limits.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Part<'a> {
    /// The budget of the limit.
    pub budget: &'a Arc<dyn Budget>,
    /// The key and the cost.
    pub ask: BudgetRequest<'a>,
    /// Whether a refusal by this limit refuses the request. Otherwise the limit only counts.
    pub is_enforced: bool,
    /// Whether the request is admitted if the store of this limit fails.
    pub admits_on_error: bool,
}

impl<'a> Part<'a> {
    /// Creates the part of an enforced limit, which refuses the request if its store fails.
    #[must_use]
    pub fn new(budget: &'a Arc<dyn Budget>, ask: BudgetRequest<'a>) -> Self {
        Self { budget, ask, is_enforced: true, admits_on_error: false }
    }

    /// Sets whether a refusal by this limit refuses the request.
    #[must_use]
    pub fn enforced(mut self, is_enforced: bool) -> Self {
        self.is_enforced = is_enforced;
        self
    }

    /// Sets whether the request is admitted if the store of this limit fails.
    #[must_use]
    pub fn admitted_on_error(mut self, admits: bool) -> Self {
        self.admits_on_error = admits;
        self
    }

    /// Whether a failure of this limit's store refuses the request.
    pub(super) fn needs_store(&self) -> bool {
        self.is_enforced && !self.admits_on_error
    }
}

/// The result of a decision on several limits.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    parts: ArrayVec<Option<Decision>, MAX_LIMITS>,
    is_limited: bool,
    is_unavailable: bool,
}

impl Decisions {
    /// Decisions on a number of parts, none of which is made.
    #[cfg(feature = "middleware")]
    pub(super) fn of(parts: usize) -> Self {
        let mut decisions = Self::default();
        decisions.clear(parts);
        decisions
    }

    /// Starts again, for a number of parts without decisions.
    pub(super) fn clear(&mut self, parts: usize) {
        (self.is_limited, self.is_unavailable) = (false, parts > MAX_LIMITS);
        self.parts.clear();
        self.parts.extend(std::iter::repeat_n(None, parts.min(MAX_LIMITS)));
    }

    /// Whether the request is admitted. It was then charged to every limit that has room for it.
    ///
    /// An enforced limit always has. If the request is refused, it was charged to no limit.
    #[must_use]
    #[inline]
    pub fn is_allowed(&self) -> bool {
        !self.is_limited && !self.is_unavailable
    }

    /// Whether the request is refused only because a store failed, not because a limit has no room.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.is_unavailable && !self.is_limited
    }

    /// The decision of one limit, in the order of the parts. It is `None` if its store failed.
    ///
    /// If the request is refused, the decisions of the limits with room describe them without this request.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Decision> {
        self.parts.get(index)?.as_ref()
    }

    /// Records the decision of a part.
    #[inline]
    pub(crate) fn record(&mut self, index: usize, is_enforced: bool, decision: Decision) {
        self.is_limited |= is_enforced && !decision.is_allowed();
        if let Some(part) = self.parts.get_mut(index) {
            *part = Some(decision);
        }
    }

    /// Records that the store of a part failed, which refuses the request if `is_needed` is true.
    pub(super) fn record_failure(&mut self, is_needed: bool) {
        self.is_unavailable |= is_needed;
    }

    /// Changes the decision of a part.
    #[cfg(feature = "middleware")]
    pub(crate) fn change(&mut self, index: usize, change: impl FnOnce(Decision) -> Decision) {
        if let Some(part) = self.parts.get_mut(index) {
            *part = part.map(change);
        }
    }

    /// Marks a part as not charged.
    pub(super) fn uncharge(&mut self, index: usize, cost: u64) {
        if let Some(Some(decision)) = self.parts.get_mut(index) {
            *decision = decision.uncharged(cost);
        }
    }
}

/// The response to a request with several limits, immediate or after I/O.
// A box would cost an allocation for each decision in this process.
#[allow(clippy::large_enum_variant)]
pub enum DecisionsResponse {
    /// The decision is complete.
    Ready(Decisions),
    /// The decision needs I/O. If the future is dropped, the parts that are already decided are refunded. A call that
    /// decides on all parts may still run, and charges all or none.
    Pending(PendingDecisions),
}

/// Decisions that need I/O.
pub type PendingDecisions = Pin<Box<dyn Future<Output = Decisions> + Send>>;

impl fmt::Debug for DecisionsResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(decisions) => f.debug_tuple("Ready").field(decisions).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

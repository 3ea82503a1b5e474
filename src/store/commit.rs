use crate::decision::{Decision, RateLimitDecision};

/// The result of a commit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "units above the reservation may have been refused"]
pub struct Commit {
    /// The units that are charged in the end.
    pub charged: u64,
    /// The decision on the units above the reservation; `None` if there were none.
    pub raise: Option<RateLimitDecision>,
}

impl Commit {
    /// Creates the result of a commit that kept units, and asked for more.
    pub(super) fn new(kept: u64, more: u64, raise: Option<Decision>) -> Self {
        let raised = raise.filter(Decision::is_allowed).map_or(0, |_| more);
        Self { charged: kept + raised, raise: raise.map(Into::into) }
    }

    /// Whether all units that the commit declared are charged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.raise.is_none_or(|raise| raise.is_allowed())
    }
}

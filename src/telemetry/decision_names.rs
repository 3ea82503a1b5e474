//! The attributes of a decision. Each has a few words of this crate as values, and never data of a request.

use super::decision_event::{DecisionReason, Seen};

/// The outcome.
pub(super) const DECISION: &str = "rate_limit.decision";
/// The reason.
pub(super) const REASON: &str = "rate_limit.reason";
/// Whether the limit is enforced for the request.
pub(super) const MODE: &str = "rate_limit.mode";

impl Seen {
    /// The number of distinct values.
    pub(super) const SLOTS: usize = 4 * (DecisionReason::Denied as usize + 1);

    /// The place among all values.
    #[inline]
    pub(super) fn slot(self) -> usize {
        (self.reason as usize) * 4 + usize::from(self.is_enforced) * 2 + usize::from(self.admits)
    }

    /// The value of `rate_limit.mode`.
    pub(super) fn mode(self) -> &'static str {
        if self.is_enforced { "enforce" } else { "shadow" }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const REASONS: [DecisionReason; 14] = [
        DecisionReason::WithinLimit,
        DecisionReason::NearLimit,
        DecisionReason::InBand,
        DecisionReason::OtherLimit,
        DecisionReason::Exempt,
        DecisionReason::OverLimit,
        DecisionReason::Shed,
        DecisionReason::NeverFits,
        DecisionReason::InFlight,
        DecisionReason::Banned,
        DecisionReason::MissingKey,
        DecisionReason::QuotasUnknown,
        DecisionReason::StoreError,
        DecisionReason::Denied,
    ];

    #[test]
    fn every_value_has_a_place_and_a_name_of_its_own() {
        let each = || REASONS.into_iter().flat_map(|reason| (0..4).map(move |bits| (reason, bits)));
        let seen = |(reason, bits)| Seen::new(bits & 1 == 1, bits & 2 == 2, reason);
        let slots: HashSet<usize> = each().map(|it| seen(it).slot()).collect();
        assert_eq!((slots.len(), slots.into_iter().max()), (Seen::SLOTS, Some(Seen::SLOTS - 1)));
        let names: HashSet<&str> = REASONS.into_iter().map(DecisionReason::name).collect();
        assert_eq!(names.len(), REASONS.len());
    }
}

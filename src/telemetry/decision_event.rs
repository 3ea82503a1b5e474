//! What one limit decides on one request, in the words of the metrics, of the spans and of the hook.

use std::fmt;

use crate::decision::{Decision, Verdict};

/// The part of a limit that must be in use for [`DecisionReason::NearLimit`]: four fifths.
const NEAR: (u64, u64) = (4, 5);

/// The outcome of one limit for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecisionOutcome {
    /// `admitted`: the limit admits the request. Another limit may refuse it; see [`DecisionReason::OtherLimit`].
    Admitted,
    /// `refused`: the limit refuses the request.
    Refused,
    /// `would_refuse`: the limit is in shadow for this key, and would refuse the request if it were enforced.
    WouldRefuse,
}

/// Why a limit admits or refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecisionReason {
    /// `within_limit`: after the request, less than four fifths of the limit are in use.
    WithinLimit,
    /// `near_limit`: after the request, at least four fifths of the limit are in use.
    NearLimit,
    /// `in_band`: the suppressed strategy sheds a part of the demand, and admits this request.
    InBand,
    /// `other_limit`: this limit has room, and is not charged, because another limit refuses the request.
    OtherLimit,
    /// `exempt`: the request is [exempt](crate::RateLimitLayerBuilder::exempt), so no limit decides.
    Exempt,
    /// `over_limit`: the request has no room now.
    OverLimit,
    /// `shed`: the suppressed strategy sheds the request.
    Shed,
    /// `never_fits`: no wait helps, because the quota is 0 or the request costs more than the limit.
    NeverFits,
    /// `in_flight`: too many requests of the key are [in flight](crate::Limit::in_flight).
    InFlight,
    /// `banned`: the key is banned.
    Banned,
    /// `missing_key`: the request has no key.
    MissingKey,
    /// `quotas_unknown`: the quotas of the request are not known, or the store does not support them.
    QuotasUnknown,
    /// `store_error`: the store cannot decide, and has no [local share](crate::OnStoreError::LocalShare).
    StoreError,
    /// `denied`: the request is on a [deny list](crate::RateLimitLayerBuilder::deny), so no limit decides.
    Denied,
}

impl DecisionOutcome {
    /// The value of `rate_limit.decision`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

impl DecisionReason {
    /// The value of `rate_limit.reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WithinLimit => "within_limit",
            Self::NearLimit => "near_limit",
            Self::InBand => "in_band",
            Self::OtherLimit => "other_limit",
            Self::Exempt => "exempt",
            Self::OverLimit => "over_limit",
            Self::Shed => "shed",
            Self::NeverFits => "never_fits",
            Self::InFlight => "in_flight",
            Self::Banned => "banned",
            Self::MissingKey => "missing_key",
            Self::QuotasUnknown => "quotas_unknown",
            Self::StoreError => "store_error",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for DecisionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DecisionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The outcome and the reason, without figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) admits: bool,
    pub(crate) is_enforced: bool,
    pub(crate) reason: DecisionReason,
}

impl Seen {
    pub(crate) fn new(admits: bool, is_enforced: bool, reason: DecisionReason) -> Self {
        Self { admits, is_enforced, reason }
    }

    /// The values of a decision that stands.
    #[inline]
    pub(crate) fn of(decision: &Decision, is_enforced: bool) -> Self {
        let (admits, reason) = match decision.verdict {
            Verdict::Allowed => {
                let is_near = decision.used.saturating_mul(NEAR.1) >= decision.limit.saturating_mul(NEAR.0);
                (true, if is_near { DecisionReason::NearLimit } else { DecisionReason::WithinLimit })
            }
            Verdict::Suppressed { is_allowed: true } => (true, DecisionReason::InBand),
            _ if decision.never_fits() => (false, DecisionReason::NeverFits),
            Verdict::Suppressed { is_allowed: false } => (false, DecisionReason::Shed),
            Verdict::Rejected => (false, DecisionReason::OverLimit),
        };
        Self { admits, is_enforced, reason }
    }

    pub(crate) fn outcome(self) -> DecisionOutcome {
        match (self.admits, self.is_enforced) {
            (true, _) => DecisionOutcome::Admitted,
            (false, true) => DecisionOutcome::Refused,
            (false, false) => DecisionOutcome::WouldRefuse,
        }
    }
}

/// One limit's decision on one request, as the function of
/// [`on_decision`](crate::RateLimitLayerBuilder::on_decision) sees it. It contains no key.
#[derive(Clone, Copy, Debug)]
pub struct DecisionEvent<'a> {
    policy: &'a str,
    seen: Seen,
    decision: Option<&'a Decision>,
}

/// A function that sees decisions.
pub(crate) type OnDecision = dyn Fn(&DecisionEvent<'_>) + Send + Sync;

impl<'a> DecisionEvent<'a> {
    pub(crate) fn new(policy: &'a str, seen: Seen, decision: Option<&'a Decision>) -> Self {
        Self { policy, seen, decision }
    }

    /// The name of the limit.
    #[must_use]
    pub fn policy(&self) -> &'a str {
        self.policy
    }

    /// What the limit decides.
    #[must_use]
    pub fn outcome(&self) -> DecisionOutcome {
        self.seen.outcome()
    }

    /// Why the limit decides so.
    #[must_use]
    pub fn reason(&self) -> DecisionReason {
        self.seen.reason
    }

    /// Whether the limit is enforced for the key of the request. Otherwise it is in shadow.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.seen.is_enforced
    }

    /// The figures of the decision, unless the limit decided without its store, or the store failed.
    #[must_use]
    pub fn decision(&self) -> Option<&'a Decision> {
        self.decision
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_reason_follows_from_the_decision() {
        let wait = Some(Duration::from_secs(1));
        for (decision, reason) in [
            (Decision::allowed(100, 79), DecisionReason::WithinLimit),
            (Decision::allowed(100, 80), DecisionReason::NearLimit),
            (Decision::allowed(u64::MAX, u64::MAX), DecisionReason::NearLimit),
            (Decision::allowed(u64::MAX, 0), DecisionReason::WithinLimit),
            (Decision::rejected(100, 100, wait), DecisionReason::OverLimit),
            (Decision::rejected(100, 0, None), DecisionReason::NeverFits),
        ] {
            let seen = Seen::of(&decision, true);
            assert_eq!((seen.reason, seen.admits), (reason, decision.is_allowed()));
        }
        let suppressed =
            |is_allowed| Decision { verdict: Verdict::Suppressed { is_allowed }, ..Decision::rejected(100, 100, wait) };
        assert_eq!(Seen::of(&suppressed(true), true).reason, DecisionReason::InBand);
        assert_eq!(Seen::of(&suppressed(false), false).reason, DecisionReason::Shed);
        assert_eq!(Seen::of(&suppressed(false), false).outcome(), DecisionOutcome::WouldRefuse);
        assert_eq!(Seen::of(&suppressed(false), true).outcome(), DecisionOutcome::Refused);
    }
}

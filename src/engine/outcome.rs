//! What a decision says, in units and ticks.

/// The tick that no clock reaches: the request can never fit.
pub(crate) const NEVER: u64 = u64::MAX;

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Below the limit, and charged.
    Allowed,
    /// Over the limit.
    Rejected,
    /// In the band of the suppressed strategy, or at its hard cap.
    Suppressed { is_allowed: bool },
}

/// One decision, described by the limit that binds: of a refusal the one that takes longest to fit, of an
/// admission the one nearest to exhaustion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The index of the limit that binds.
    pub(crate) binding: usize,
    /// One bit for each limit that refused.
    pub(crate) violated: u8,
    pub(crate) capacity: u64,
    /// Units held against that limit after the decision.
    pub(crate) used: u64,
    /// The first tick at which the same cost fits if nothing else arrives; 0 where it fits now.
    pub(crate) fits_at: u64,
    /// Units free at that tick, before the cost is charged.
    pub(crate) free_then: u64,
    /// The first tick at which nothing is held any more.
    pub(crate) empty_at: u64,
    /// The part of the demand that is turned away, 0 to 1.
    pub(crate) factor: f64,
    /// The tick with which an admission was stamped.
    pub(crate) stamp: u64,
}

impl Outcome {
    /// What is decided where there is no limit.
    pub(super) const UNLIMITED: Self = Self {
        verdict: Verdict::Allowed,
        binding: 0,
        violated: 0,
        capacity: u64::MAX,
        used: 0,
        fits_at: 0,
        free_then: u64::MAX,
        empty_at: 0,
        factor: 0.0,
        stamp: 0,
    };

    #[cfg(test)]
    pub(crate) fn is_allowed(&self) -> bool {
        !matches!(self.verdict, Verdict::Rejected | Verdict::Suppressed { is_allowed: false })
    }
}

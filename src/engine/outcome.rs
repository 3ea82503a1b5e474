//! What a decision says, in units and ticks.

use super::limit::Limit;
use crate::decision::Verdict;

/// The tick that no clock reaches: the request can never fit.
pub(crate) const NEVER: u64 = u64::MAX;

/// One decision, described by the limit that binds: of a refusal the one that takes longest to fit, of an
/// admission the one nearest to exhaustion.
///
/// Small, since it is written while the key is locked; what follows from it and the limit is derived later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The index of the limit that binds.
    pub(crate) binding: u8,
    /// One bit for each limit that refused.
    pub(crate) violated: u8,
    /// The part of the demand that is turned away, 0 to 1.
    pub(crate) factor: f32,
    /// Units held against the limit that binds, after the decision.
    pub(crate) used: u64,
    /// The tick of the newest unit, which is that of this request where it was charged.
    pub(crate) newest: u64,
    /// The first tick at which the same cost fits if nothing else arrives; 0 where it fits now.
    pub(crate) fits_at: u64,
    /// Units held at that tick, before the cost is charged.
    pub(crate) used_then: u64,
}

impl Outcome {
    /// An admission.
    #[inline]
    pub(super) fn allowed(binding: usize, used: u64, newest: u64) -> Self {
        let (binding, fits_at, used_then) = (binding as u8, 0, used);
        Self { verdict: Verdict::Allowed, binding, violated: 0, factor: 0.0, used, newest, fits_at, used_then }
    }

    /// The first tick at which nothing is held any more against the limit that binds.
    pub(crate) fn empty_at(&self, limits: &[Limit]) -> u64 {
        match limits.get(usize::from(self.binding)) {
            Some(limit) if self.used > 0 => self.newest + u64::from(limit.span) + 1,
            _ => 0,
        }
    }

    /// The units that the limit that binds admits; without a limit there is no end to them.
    pub(crate) fn capacity(&self, limits: &[Limit]) -> u64 {
        limits.get(usize::from(self.binding)).map_or(u64::MAX, |limit| limit.capacity)
    }

    #[inline]
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict.is_allowed()
    }
}

//! The result of a decision, in units and ticks.

use super::limit::Limit;
use crate::decision::Verdict;

/// The tick that no clock reaches: the request never fits.
pub(crate) const NEVER: u64 = u64::MAX;

/// One decision, described by the binding limit. For a refusal, this is the limit with the longest wait. For an
/// admission, it is the limit that is nearest to exhaustion.
///
/// The struct is small, because it is written while the key is locked. Derived values are computed later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The index of the binding limit.
    pub(crate) binding: u8,
    /// One bit per limit that refused.
    pub(crate) violated: u8,
    /// The part of the demand that is shed, 0 to 1.
    pub(crate) factor: f32,
    /// The units held against the binding limit, after the decision.
    pub(crate) used: u64,
    /// The tick of the newest unit. If the request was charged, this is its own tick.
    pub(crate) newest: u64,
    /// The first tick at which the same cost fits if no other request arrives; 0 if it fits now.
    pub(crate) fits_at: u64,
    /// The units held at that tick, before the charge.
    pub(crate) used_then: u64,
}

impl Outcome {
    /// An admission.
    #[inline]
    pub(crate) fn allowed(binding: usize, used: u64, newest: u64) -> Self {
        let (binding, fits_at, used_then) = (binding as u8, 0, used);
        Self { verdict: Verdict::Allowed, binding, violated: 0, factor: 0.0, used, newest, fits_at, used_then }
    }

    /// The first tick at which no unit is held against the binding limit.
    pub(crate) fn empty_at(&self, limits: &[Limit]) -> u64 {
        match limits.get(usize::from(self.binding)) {
            Some(limit) if self.used > 0 => self.newest + u64::from(limit.span) + 1,
            _ => 0,
        }
    }

    /// The capacity of the binding limit; without a limit, the capacity is unbounded.
    pub(crate) fn capacity(&self, limits: &[Limit]) -> u64 {
        limits.get(usize::from(self.binding)).map_or(u64::MAX, |limit| limit.capacity)
    }

    /// An admission as it was before its charge of `cost` units.
    pub(crate) fn uncharged(self, cost: u64) -> Self {
        let used = self.used.saturating_sub(cost);
        Self { used, used_then: used, fits_at: 0, ..self }
    }

    #[inline]
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict.is_allowed()
    }
}

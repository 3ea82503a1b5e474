//! The limits of a request.

use std::sync::Arc;

use crate::decision::Decision;
use crate::engine::Limit;
use crate::quota::Tolerance;
use crate::script::Mode;

/// One key's limits, as a request passes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitSet<'a> {
    pub(crate) limits: &'a [Limit],
    pub(crate) is_suppressed: bool,
    /// Identifies the set of limits.
    pub(crate) limits_id: u64,
}

/// An owned set of a key's limits.
#[derive(Clone, Debug)]
pub(crate) struct OwnedLimitSet {
    limits: Arc<[Limit]>,
    /// The same with the tolerance, as Redis enforces them.
    pub(crate) scaled: Arc<[Limit]>,
    is_suppressed: bool,
    limits_id: u64,
}

impl OwnedLimitSet {
    pub(crate) fn new(limits: Arc<[Limit]>, is_suppressed: bool, tolerance: Tolerance) -> Self {
        let limits_id = limits_id(&limits, is_suppressed);
        let scaled = if tolerance.get() > 0.0 {
            let scale = |limit: &Limit| {
                let (capacity, hard) = (tolerance.widen(limit.capacity), tolerance.widen(limit.hard));
                Limit { capacity, hard, ..*limit }
            };
            limits.iter().map(scale).collect()
        } else {
            Arc::clone(&limits)
        };
        Self { limits, scaled, is_suppressed, limits_id }
    }

    pub(crate) fn borrow(&self) -> LimitSet<'_> {
        LimitSet { limits: &self.limits, is_suppressed: self.is_suppressed, limits_id: self.limits_id }
    }

    pub(crate) fn mode(&self) -> Mode {
        if self.is_suppressed { Mode::Suppressed } else { Mode::Absolute }
    }

    /// Returns a decision on the scaled limits with the configured limit.
    pub(crate) fn unscale(&self, decision: Decision) -> Decision {
        let limit = self.limits.get(decision.limit_index).map_or(decision.limit, |limit| limit.capacity);
        Decision { limit, ..decision }
    }
}

/// Identifies a set of limits. Never 0.
#[inline]
pub(crate) fn limits_id(limits: &[Limit], is_suppressed: bool) -> u64 {
    Limit::digest(limits) << 2 | u64::from(is_suppressed) << 1 | 1
}

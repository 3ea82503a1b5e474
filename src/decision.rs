//! What a decision says: the verdict, and everything a response's headers need, from one engine call.

use std::time::Duration;

use crate::time::millis;

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Below every limit.
    Allowed,
    /// Over a limit of the absolute strategy.
    Rejected,
    /// In the band of the suppressed strategy, or at its hard cap.
    Suppressed {
        /// Whether this request passes.
        is_allowed: bool,
    },
}

impl Verdict {
    /// Whether the request passes.
    #[must_use]
    #[inline]
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::Suppressed { is_allowed: true })
    }
}

/// A decision on one request, in full.
///
/// With several limits the figures describe the one that binds: of a refusal the limit that takes longest
/// to have room, of an admission the one with the smallest part of it free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) limit_index: usize,
    pub(crate) violated: u8,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) retry_after_ms: u64,
    pub(crate) remaining_after_waiting: u64,
    pub(crate) reset_after_ms: u64,
    pub(crate) factor: f64,
    pub(crate) charge: Charge,
    pub(crate) is_overflow: bool,
}

/// Where a decision charged its units, and how a refund finds them. A refusal and a peek charge 0 units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// A store of the user's decided.
    None,
    /// The key's window, in this process or in Redis, at a tick of its clock.
    Window { tick: u64, units: u64 },
    /// A lease, at an instant of this instance's clock.
    #[cfg(feature = "_redis")]
    Lease { at_ms: u64, units: u64 },
    /// The window of this instance's share, at a tick of this instance's clock.
    #[cfg(feature = "_redis")]
    LocalShare { tick: u64, units: u64 },
}

#[cfg(feature = "_redis")]
impl Charge {
    /// The units that were charged.
    #[inline]
    pub(crate) fn units(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Window { units, .. } | Self::Lease { units, .. } | Self::LocalShare { units, .. } => units,
        }
    }
}

impl Decision {
    /// An admission by a store of your own: the limit and the units used after it.
    #[must_use]
    pub fn allowed(limit: u64, used: u64) -> Self {
        Self {
            verdict: Verdict::Allowed,
            limit_index: 0,
            violated: 0,
            limit,
            used,
            retry_after_ms: 0,
            remaining_after_waiting: limit.saturating_sub(used),
            reset_after_ms: 0,
            factor: 0.0,
            charge: Charge::None,
            is_overflow: false,
        }
    }

    /// A refusal by a store of your own: the limit, the units used, and how long until the same request
    /// fits, which is nothing where it never will.
    #[must_use]
    pub fn rejected(limit: u64, used: u64, retry_after: Option<Duration>) -> Self {
        let retry_after_ms = retry_after.map_or(u64::MAX, |wait| millis(wait).max(1));
        Self { verdict: Verdict::Rejected, violated: 1, retry_after_ms, ..Self::allowed(limit, used) }
    }

    /// The index, in the order of configuration, of the limit that the figures describe.
    #[must_use]
    pub fn with_limit_index(mut self, index: usize) -> Self {
        self.limit_index = index;
        self.violated = if self.is_allowed() { 0 } else { 1_u8.checked_shl(index as u32).unwrap_or(0) };
        self
    }

    /// How long until nothing is used any more.
    #[must_use]
    pub fn with_reset_after(mut self, reset_after: Duration) -> Self {
        self.reset_after_ms = millis(reset_after);
        self
    }

    /// How it ended.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the request passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict.is_allowed()
    }

    /// The units that the limit admits in its window.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The units in the window, this request's included if it was charged.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The units that are left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// How long until another request of the same cost fits all limits, if nothing else arrives; zero where it
    /// fits now, and nothing where it never will because it costs more than the limit admits.
    ///
    /// Of a shed request an estimate, with jitter.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        duration(self.retry_after_ms)
    }

    /// How long until nothing is used any more, if nothing else arrives.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        Duration::from_millis(self.reset_after_ms)
    }

    /// The part of the demand that is turned away, 0 to 1; above 0 only in the suppressed strategy.
    #[must_use]
    pub fn suppression_factor(&self) -> f64 {
        self.factor
    }

    /// The index, in the order of configuration, of the limit that the figures describe.
    #[must_use]
    pub fn limit_index(&self) -> usize {
        self.limit_index
    }

    /// Whether the store could not decide, and this instance's part of the limit did; see
    /// [`OnStoreError::LocalShare`](crate::OnStoreError::LocalShare).
    #[must_use]
    pub fn is_local_share(&self) -> bool {
        #[cfg(feature = "_redis")]
        return matches!(self.charge, Charge::LocalShare { .. });
        #[cfg(not(feature = "_redis"))]
        false
    }

    /// Whether the key shared a budget with other keys, because the store had no room for one of its own.
    ///
    /// The store then holds `max_keys` keys that are all in use. A refusal may be for what other clients did.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.is_overflow
    }

    /// Whether the limit with this index refused.
    #[must_use]
    pub fn is_exceeded(&self, index: usize) -> bool {
        u32::try_from(index).ok().and_then(|index| self.violated.checked_shr(index)).is_some_and(|bits| bits & 1 == 1)
    }
}

/// A decision in short: what the engine's `inc` and `is_allowed` return.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimitDecision {
    /// Below the limit: proceed.
    Allowed,
    /// Over the limit: the absolute strategy refuses, and nothing was charged.
    Rejected {
        /// Milliseconds until the same request fits if nothing else arrives, at least 1; `u64::MAX` where it
        /// never will, because it costs more than the limit admits.
        retry_after_ms: u64,
        /// Units free at that time, before the request is charged.
        remaining_after_waiting: u64,
    },
    /// In the band of the suppressed strategy, or at its hard cap.
    Suppressed {
        /// The part of the demand that is turned away: above 0 and at most 1, which is the hard cap.
        suppression_factor: f64,
        /// Whether this request passes.
        is_allowed: bool,
    },
}

impl RateLimitDecision {
    /// Whether the request passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed | Self::Suppressed { is_allowed: true, .. })
    }

    /// What the suppressed strategy says of a request that is not drawn for: in the band some pass.
    pub(crate) fn at_factor(factor: f64) -> Self {
        match factor > 0.0 {
            true => Self::Suppressed { suppression_factor: factor, is_allowed: factor < 1.0 },
            false => Self::Allowed,
        }
    }

    /// How long to wait where the decision knows it: nothing unless rejected, and nothing where no wait
    /// can help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after_ms, .. } => duration(*retry_after_ms),
            _ => None,
        }
    }
}

impl From<Decision> for RateLimitDecision {
    fn from(decision: Decision) -> Self {
        match decision.verdict {
            Verdict::Allowed => Self::Allowed,
            Verdict::Rejected => Self::Rejected {
                retry_after_ms: decision.retry_after_ms,
                remaining_after_waiting: decision.remaining_after_waiting,
            },
            Verdict::Suppressed { is_allowed } => Self::Suppressed { suppression_factor: decision.factor, is_allowed },
        }
    }
}

/// Where a key stands in the suppressed strategy: what it was offered in the window, and what of that was declined.
///
/// See [`LocalLimits::snapshot`](crate::store::LocalLimits::snapshot).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SuppressionSnapshot {
    /// The units that requests asked for in the window: the admitted and the declined ones.
    pub observed: u64,
    /// The units of the requests that were declined.
    ///
    /// They are counted in sixteenths of the window, of which the oldest counts in part.
    pub declined: u64,
    /// The part of the demand that would be declined now: 0 below the limit, 1 at the hard cap.
    pub factor: f64,
}

fn duration(ms: u64) -> Option<Duration> {
    (ms != u64::MAX).then(|| Duration::from_millis(ms))
}

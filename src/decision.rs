//! The result of an engine call: the verdict and all figures that a response's headers need.

use std::time::Duration;

use crate::time::millis;

/// The result of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The request is below every limit.
    Allowed,
    /// The request is over a limit of the absolute strategy.
    Rejected,
    /// The request is in the band of the suppressed strategy, or at its hard cap.
    Suppressed {
        /// Whether this request is admitted.
        is_allowed: bool,
    },
}

impl Verdict {
    /// Whether the request is admitted.
    #[must_use]
    #[inline]
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed | Self::Suppressed { is_allowed: true })
    }
}

/// A decision on one request, with all its figures.
///
/// With several limits, the figures describe one of them. For a refusal, it is the limit with the longest wait. For an
/// admission, it is the limit with the smallest free part.
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
    /// A user-defined store made the decision.
    None,
    /// The key's window, in this process or in Redis, at a tick of its clock.
    Window { tick: u64, units: u64 },
    /// A lease, by its number, at an instant of this instance's clock.
    #[cfg(feature = "_redis")]
    Lease { number: u32, at_ms: u64, units: u64 },
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
    /// Creates an admission for a store of your own, from the limit and the units used after the charge.
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

    /// Creates a refusal for a store of your own.
    ///
    /// `used` is the units in use. `retry_after` is the time until the same request fits, and `None` if no wait helps.
    #[must_use]
    pub fn rejected(limit: u64, used: u64, retry_after: Option<Duration>) -> Self {
        let retry_after_ms = retry_after.map_or(u64::MAX, |wait| millis(wait).max(1));
        Self { verdict: Verdict::Rejected, violated: 1, retry_after_ms, ..Self::allowed(limit, used) }
    }

    /// Sets the index, in the order of configuration, of the limit that the figures describe.
    #[must_use]
    pub fn with_limit_index(mut self, index: usize) -> Self {
        self.limit_index = index;
        self.violated = if self.is_allowed() { 0 } else { 1_u8.checked_shl(index as u32).unwrap_or(0) };
        self
    }

    /// Sets the time until the window is empty.
    #[must_use]
    pub fn with_reset_after(mut self, reset_after: Duration) -> Self {
        self.reset_after_ms = millis(reset_after);
        self
    }

    /// The decision as if it had charged nothing: `cost` units are free again.
    pub(crate) fn uncharged(self, cost: u64) -> Self {
        let used = if self.is_allowed() { self.used.saturating_sub(cost) } else { self.used };
        Self {
            used,
            charge: Charge::None,
            retry_after_ms: if self.is_allowed() { 0 } else { self.retry_after_ms },
            ..self
        }
    }

    /// The result.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the request is admitted.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict.is_allowed()
    }

    /// The units that the limit admits in its window.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The units in the window. They include this request if it was charged.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The free units.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// The time until another request of the same cost fits all limits, if no other request arrives.
    ///
    /// It is zero if the request fits now. It is `None` if the request never fits, because it costs more than the
    /// limit.
    ///
    /// For a shed request, this is an estimate with jitter.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        duration(self.retry_after_ms)
    }

    /// The same decision with the rest of its waits, after a time in which nothing changed.
    #[cfg(feature = "_redis")]
    pub(crate) fn later(self, passed: Duration) -> Self {
        if self.retry_after().is_none() {
            return self;
        }
        // A refusal still refuses.
        let least = u64::from(!self.is_allowed());
        let passed = crate::time::millis(passed);
        let retry_after_ms = self.retry_after_ms.saturating_sub(passed).max(least);
        Self { retry_after_ms, reset_after_ms: self.reset_after_ms.saturating_sub(passed), ..self }
    }

    /// Whether the request is refused, and no wait helps.
    #[cfg(feature = "middleware")]
    pub(crate) fn never_fits(&self) -> bool {
        self.retry_after_ms == u64::MAX && !self.is_allowed()
    }

    /// The time until the window is empty, if no other request arrives.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        Duration::from_millis(self.reset_after_ms)
    }

    /// The part of the demand that is shed, from 0 to 1. It is above 0 only with the suppressed strategy.
    #[must_use]
    pub fn suppression_factor(&self) -> f64 {
        self.factor
    }

    /// The index, in the order of configuration, of the limit that the figures describe.
    #[must_use]
    pub fn limit_index(&self) -> usize {
        self.limit_index
    }

    /// Whether this instance's share of the limit decided, because the store could not; see
    /// [`OnStoreError::LocalShare`](crate::OnStoreError::LocalShare).
    #[must_use]
    pub fn is_local_share(&self) -> bool {
        #[cfg(feature = "_redis")]
        return matches!(self.charge, Charge::LocalShare { .. });
        #[cfg(not(feature = "_redis"))]
        false
    }

    /// Whether the key shares a budget with other keys, because the store has no room for one of its own.
    ///
    /// The store then holds `max_keys` keys that are all in use. Other clients may have caused a refusal.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.is_overflow
    }

    /// Whether the limit with this index refused the request.
    #[must_use]
    pub fn is_exceeded(&self, index: usize) -> bool {
        u32::try_from(index).ok().and_then(|index| self.violated.checked_shr(index)).is_some_and(|bits| bits & 1 == 1)
    }
}

/// A short decision, as the engine's `inc` and `is_allowed` return it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimitDecision {
    /// The request is below the limit.
    Allowed,
    /// The request is over the limit. The absolute strategy rejects it and charges nothing.
    Rejected {
        /// Milliseconds until the same request fits if no other request arrives, at least 1. It is `u64::MAX` if the
        /// request never fits, because it costs more than the limit.
        retry_after_ms: u64,
        /// Units that are free at that time, before the request is charged.
        remaining_after_waiting: u64,
    },
    /// The request is in the band of the suppressed strategy, or at its hard cap.
    Suppressed {
        /// The part of the demand that is shed: above 0 and at most 1, which is the hard cap.
        suppression_factor: f64,
        /// Whether this request is admitted.
        is_allowed: bool,
    },
}

impl RateLimitDecision {
    /// Whether the request is admitted.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed | Self::Suppressed { is_allowed: true, .. })
    }

    /// The decision of the suppressed strategy without a random draw: some requests in the band are admitted.
    pub(crate) fn at_factor(factor: f64) -> Self {
        match factor > 0.0 {
            true => Self::Suppressed { suppression_factor: factor, is_allowed: factor < 1.0 },
            false => Self::Allowed,
        }
    }

    /// The time to wait. It is `None` unless the request was rejected, and also if no wait helps.
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

/// The state of a key in the suppressed strategy: the requested units in the window, and how many of them were shed.
///
/// See [`LocalLimits::snapshot`](crate::store::LocalLimits::snapshot).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SuppressionSnapshot {
    /// The units that requests asked for in the window, both admitted and shed.
    pub observed: u64,
    /// The units of the requests that were shed.
    ///
    /// They are counted in sixteenths of the window. The oldest sixteenth counts in part.
    pub declined: u64,
    /// The part of the demand that would be shed now: 0 below the limit, and 1 at the hard cap.
    pub factor: f64,
}

fn duration(ms: u64) -> Option<Duration> {
    (ms != u64::MAX).then(|| Duration::from_millis(ms))
}

//! The units of a store: it converts rates and quotas to limits in ticks, and outcomes in ticks to decisions.

use std::time::Duration;

use crate::decision::{Charge, Decision, RateLimitDecision, Verdict};
use crate::engine::{Limit, NEVER, Outcome};
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::{HardLimitFactor, MAX_QUOTAS, Quota, RateLimit};
use crate::strategy::Strategy;
use crate::telemetry::{self, Notice};
use crate::time::{Ticks, millis};

/// The options of a store that define the ticks of a limit and of an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowGeometry {
    ticks: Ticks,
    lag_ms: u64,
    lag: u32,
    fifth_of_a_second: u32,
    /// The window of a bare rate, in seconds and in ticks.
    window_seconds: u64,
    window: u32,
    hard: HardLimitFactor,
}

impl WindowGeometry {
    /// Creates a geometry with buckets of `bucket_ms`, for a clock that may lag by `lag_ms`.
    pub(crate) fn new(
        bucket_ms: u64,
        lag_ms: u64,
        window_seconds: u64,
        hard: HardLimitFactor,
    ) -> Result<Self, ConfigError> {
        let ticks = Ticks::new(bucket_ms);
        let lag = saturating_u32(ticks.covering(lag_ms));
        let window = window_ticks(ticks, lag, window_seconds.saturating_mul(1_000))?;
        let fifth_of_a_second = saturating_u32(ticks.covering(200));
        Ok(Self { ticks, lag_ms, lag, fifth_of_a_second, window_seconds, window, hard })
    }

    pub(crate) fn bucket_ms(&self) -> u64 {
        self.ticks.bucket_ms()
    }

    /// The whole ticks in a time.
    pub(crate) fn ticks_in(&self, time: Duration) -> u32 {
        saturating_u32(self.ticks.at(millis(time)))
    }

    /// The tick that contains an instant.
    #[inline]
    pub(crate) fn at(&self, now_ms: u64) -> u64 {
        self.ticks.at(now_ms)
    }

    /// How long a unit of a bare rate is held, in ticks.
    #[inline]
    pub(crate) fn span(&self) -> u32 {
        self.window + self.lag
    }

    /// The limit of a bare rate.
    #[inline]
    pub(crate) fn limit(&self, rate: &RateLimit, suppressed: bool) -> Limit {
        let capacity = rate.capacity_over(self.window_seconds);
        let hard = if suppressed { self.hard.cap(capacity) } else { capacity };
        self.limit_over(capacity, hard, self.window)
    }

    /// A limit of `capacity` units in the window of a bare rate.
    #[cfg(feature = "_redis")]
    pub(crate) fn limit_of(&self, capacity: u64) -> Limit {
        self.limit_over(capacity, capacity, self.window)
    }

    /// The limits of a policy.
    pub(crate) fn limits(&self, policy: &Policy) -> Result<Box<[Limit]>, ConfigError> {
        if policy.quotas().is_empty() {
            return Err(ConfigError::NoQuota);
        }
        if policy.quotas().len() > MAX_QUOTAS {
            return Err(ConfigError::TooManyQuotas { most: MAX_QUOTAS });
        }
        let limit = |quota: &Quota| {
            let window = window_ticks(self.ticks, self.lag, quota.window_ms())?;
            self.check_bucket(quota.window_ms());
            let hard = match policy.strategy() {
                Strategy::Absolute => quota.count(),
                Strategy::Suppressed(factor) => factor.cap(quota.count()),
            };
            Ok(self.limit_over(quota.count(), hard, window))
        };
        policy.quotas().iter().map(limit).collect()
    }

    /// Logs once if the buckets are so coarse for a window that much of its limit stays unused.
    pub(crate) fn check_bucket(&self, window_ms: u64) {
        if self.bucket_ms() > 1 && self.bucket_ms().saturating_mul(10) > window_ms {
            telemetry::notify(Notice::CoarseBuckets, None);
        }
    }

    #[inline]
    fn limit_over(&self, capacity: u64, hard: u64, window: u32) -> Limit {
        Limit { capacity, hard, window, span: window + self.lag, ticks_in_200ms: self.fifth_of_a_second }
    }

    /// Converts a limit of another geometry with the same bucket size to this clock's lag.
    #[cfg(feature = "_redis")]
    pub(crate) fn with_lag(&self, limit: Limit) -> Limit {
        Limit { span: limit.window + self.lag, ..limit }
    }

    /// Returns one instance's share of each limit, given the number of instances. A share is at least 1 unless the
    /// limit is 0.
    #[cfg(feature = "_redis")]
    pub(crate) fn local_shares<'a>(&self, limits: &[Limit], instances: u64, room: &'a mut Shares) -> &'a mut [Limit] {
        let part = |units: u64| if units == 0 { 0 } else { (units / instances.max(1)).max(1) };
        let parts = &mut room[..limits.len().min(MAX_QUOTAS)];
        for (here, limit) in parts.iter_mut().zip(limits) {
            let limit = self.with_lag(*limit);
            *here = Limit { capacity: part(limit.capacity), hard: part(limit.hard), ..limit };
        }
        parts
    }

    /// Returns a decision by the [`local_shares`](Self::local_shares) of the limits.
    #[cfg(feature = "_redis")]
    pub(crate) fn local_share_decision(
        &self,
        outcome: &Outcome,
        cost: u64,
        limits: &[Limit],
        parts: &[Limit],
        now_ms: u64,
    ) -> Decision {
        let decision = self.decision(outcome, cost, parts, now_ms);
        // A cost above the share may fit the whole limit, once Redis decides again.
        let retry_after_ms = match limits.get(decision.limit_index) {
            Some(limit) if decision.retry_after_ms == u64::MAX && cost <= limit.capacity => self.window_ms(limit),
            _ => decision.retry_after_ms,
        };
        let charge = Charge::LocalShare { tick: outcome.newest, units: decision.charge.units() };
        Decision { charge, retry_after_ms, ..decision }
    }

    /// How long a unit counts at most: for its window, the clock's lag, and the rest of its bucket.
    pub(crate) fn hold_ms(&self, limit: &Limit) -> u64 {
        self.ticks.start_ms(u64::from(limit.span) + 1)
    }

    /// The window of a limit, rounded up to buckets.
    #[cfg(feature = "_redis")]
    pub(crate) fn window_ms(&self, limit: &Limit) -> u64 {
        self.ticks.start_ms(u64::from(limit.window))
    }

    /// Converts the ticks of an outcome to milliseconds from now, and derives values from the binding limit.
    #[inline]
    pub(crate) fn decision(&self, outcome: &Outcome, charged: u64, limits: &[Limit], now_ms: u64) -> Decision {
        let limit = outcome.capacity(limits);
        Decision {
            verdict: outcome.verdict,
            limit_index: usize::from(outcome.binding),
            violated: outcome.violated,
            limit,
            used: outcome.used,
            retry_after_ms: self.wait_ms(outcome.fits_at, now_ms),
            remaining_after_waiting: limit.saturating_sub(outcome.used_then),
            reset_after_ms: self.wait_ms(outcome.empty_at(limits), now_ms),
            factor: f64::from(outcome.factor),
            charge: Charge::Window { tick: outcome.newest, units: if outcome.is_allowed() { charged } else { 0 } },
            is_overflow: false,
        }
    }

    /// Converts an outcome to a short decision.
    #[inline]
    pub(crate) fn brief_decision(&self, outcome: &Outcome, limits: &[Limit], now_ms: u64) -> RateLimitDecision {
        match outcome.verdict {
            Verdict::Allowed => RateLimitDecision::Allowed,
            Verdict::Rejected => self.rejected(outcome.fits_at, outcome.used_then, outcome.capacity(limits), now_ms),
            Verdict::Suppressed { is_allowed } => {
                RateLimitDecision::Suppressed { suppression_factor: f64::from(outcome.factor), is_allowed }
            }
        }
    }

    /// A short rejection: the cost fits at a tick, when so many units of the capacity are in use.
    #[inline]
    pub(crate) fn rejected(&self, fits_at: u64, used_then: u64, capacity: u64, now_ms: u64) -> RateLimitDecision {
        RateLimitDecision::Rejected {
            retry_after_ms: self.wait_ms(fits_at, now_ms),
            remaining_after_waiting: capacity.saturating_sub(used_then),
        }
    }

    /// The time until this clock certainly shows `tick`: by then, even a clock that lags has reached it.
    #[inline]
    fn wait_ms(&self, tick: u64, now_ms: u64) -> u64 {
        match tick {
            0 => 0,
            NEVER => u64::MAX,
            tick => self.ticks.start_ms(tick).saturating_sub(now_ms).saturating_add(self.lag_ms).max(1),
        }
    }
}

/// Space for the shares of all limits of a decision.
#[cfg(feature = "_redis")]
pub(crate) type Shares = [Limit; MAX_QUOTAS];

/// [`Shares`] without content.
#[cfg(feature = "_redis")]
pub(crate) const EMPTY_SHARES: Shares =
    [Limit { capacity: 0, hard: 0, window: 1, span: 1, ticks_in_200ms: 1 }; MAX_QUOTAS];

/// Returns a window in ticks, if a bucket fits into it and its history can be addressed.
fn window_ticks(ticks: Ticks, lag: u32, window_ms: u64) -> Result<u32, ConfigError> {
    let bucket_ms = ticks.bucket_ms();
    if bucket_ms > window_ms {
        return Err(ConfigError::BucketExceedsWindow { bucket_ms, window_ms });
    }
    let most = Ticks::MAX_SPAN.saturating_sub(u64::from(lag));
    match ticks.covering(window_ms) {
        window if window <= most => Ok(saturating_u32(window)),
        _ => Err(ConfigError::WindowTooLong { window_ms, least_bucket_ms: window_ms.div_ceil(most.max(1)) }),
    }
}

fn saturating_u32(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_saturate_at_the_largest_time() {
        let scale = WindowGeometry::new(1 << 40, 100_000, 1 << 41, HardLimitFactor::default()).unwrap();
        assert_eq!(scale.wait_ms(1 << 47, 0), u64::MAX);
        assert_eq!(scale.wait_ms(1, 0), (1 << 40) + 100_000);
        assert_eq!(scale.wait_ms(1, u64::MAX), 100_000);
        assert_eq!((scale.wait_ms(0, 7), scale.wait_ms(NEVER, 7)), (0, u64::MAX));
    }
}

//! Milliseconds, and ticks of one bucket each.

use std::time::Duration;

/// Whole milliseconds of a duration, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds, rounded up.
pub(crate) fn millis_up(duration: Duration) -> u64 {
    millis(duration).saturating_add(u64::from(!duration.subsec_nanos().is_multiple_of(1_000_000)))
}

/// Seconds, rounded up.
#[cfg(feature = "middleware")]
pub(crate) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// Tick arithmetic. It divides time into buckets of one size, aligned to the clock's origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    bucket_ms: u64,
}

impl Ticks {
    /// The longest span that a window may retain, in ticks: words hold the low 24 bits of a tick.
    pub(crate) const MAX_SPAN: u64 = (1 << 24) - 2;
    /// Ticks are 48 bits wide. At 1 ms, that covers 8900 years.
    const MAX_TICK: u64 = (1 << 48) - 1;

    pub(crate) fn new(bucket_ms: u64) -> Self {
        Self { bucket_ms: bucket_ms.max(1) }
    }

    pub(crate) fn bucket_ms(self) -> u64 {
        self.bucket_ms
    }

    /// The tick that contains an instant.
    #[inline]
    pub(crate) fn at(self, now_ms: u64) -> u64 {
        (now_ms / self.bucket_ms).min(Self::MAX_TICK)
    }

    /// The first millisecond of a tick.
    #[inline]
    pub(crate) fn start_ms(self, tick: u64) -> u64 {
        tick.saturating_mul(self.bucket_ms)
    }

    /// The number of ticks that cover a duration, rounded up.
    pub(crate) fn covering(self, ms: u64) -> u64 {
        ms.div_ceil(self.bucket_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_saturate() {
        let ticks = Ticks::new(1);
        assert_eq!(ticks.at(u64::MAX), (1 << 48) - 1);
        assert_eq!(Ticks::new(u64::MAX).start_ms(7), u64::MAX);
        assert_eq!(Ticks::new(10).covering(11), 2);
    }
}

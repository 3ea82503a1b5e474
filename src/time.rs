//! Time as the engine sees it: milliseconds since an origin, and ticks of one bucket each.
//!
//! A clock here may lag behind real time by a known bound, but never runs ahead of it. The engine pays
//! for the lag with extra ticks before a unit expires, so a lagging clock can never admit too much.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A source of monotonic time.
///
/// Implement it to drive a limiter from your own clock; [`ManualClock`] serves tests.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since an origin of the clock's choosing, rounded down.
    ///
    /// A step backwards is harmless: the limiter then uses the latest time that it has seen for the key.
    fn now_ms(&self) -> u64;

    /// The most by which [`now_ms`](Self::now_ms) may lag behind real time, in milliseconds.
    ///
    /// The limiter holds every unit that much longer, and adds it to every retry hint.
    fn lag_ms(&self) -> u64 {
        0
    }
}

/// The operating system's monotonic clock, read precisely (about 30 ns a read).
///
/// Without a clock of its own a limiter reads the coarse monotonic clock where the system has one (about
/// 4 ns, behind real time by at most a few milliseconds, which the limiter accounts for), unless its
/// buckets are finer than that clock. Set this one to hold units for less than that lag.
#[derive(Clone, Copy, Debug)]
pub struct PreciseClock(Instant);

impl PreciseClock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for PreciseClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for PreciseClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to; its clones share one time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::{ManualClock, RateLimit, RateLimiter};
///
/// let clock = ManualClock::new();
/// let rl = RateLimiter::builder().clock(clock.clone()).build()?;
/// let rate = RateLimit::try_from(1.0)?; // 60 in any minute
///
/// assert!(rl.local().absolute().inc("k", &rate, 60).is_allowed());
/// assert!(!rl.local().absolute().inc("k", &rate, 1).is_allowed());
/// clock.advance(Duration::from_secs(61));
/// assert!(rl.local().absolute().inc("k", &rate, 1).is_allowed());
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Creates a clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time forward; a fraction of a millisecond is dropped.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the time, in milliseconds since the clock's origin; it may go backwards.
    pub fn set_ms(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The clock a store reads, without a virtual call for the built-in one.
#[derive(Clone)]
pub(crate) enum TimeSource {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Coarse {
        lag_ms: u64,
    },
    Precise(PreciseClock),
    Custom(Arc<dyn Clock>),
}

impl TimeSource {
    /// The fastest clock that is fine enough for buckets of `bucket_ms`.
    pub(crate) fn system(bucket_ms: u64) -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(lag_ms) = coarse::lag_ms(bucket_ms) {
            return Self::Coarse { lag_ms };
        }
        let _ = bucket_ms;
        Self::Precise(PreciseClock::new())
    }

    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Coarse { .. } => coarse::now_ms(),
            Self::Precise(clock) => clock.now_ms(),
            Self::Custom(clock) => clock.now_ms(),
        }
    }

    pub(crate) fn lag_ms(&self) -> u64 {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Coarse { lag_ms } => *lag_ms,
            Self::Precise(clock) => clock.lag_ms(),
            Self::Custom(clock) => clock.lag_ms(),
        }
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Coarse { .. } => "Coarse",
            Self::Precise(_) => "Precise",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod coarse {
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    fn to_ms(time: Timespec) -> u64 {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
    }

    #[inline]
    pub(super) fn now_ms() -> u64 {
        to_ms(clock_gettime(ClockId::MonotonicCoarse))
    }

    /// Twice the clock's resolution, or nothing where the resolution is above one bucket.
    ///
    /// The kernel moves this clock on every timer tick; the factor of two leaves room for a late one.
    pub(super) fn lag_ms(bucket_ms: u64) -> Option<u64> {
        let resolution = clock_getres(ClockId::MonotonicCoarse);
        let nanos = u64::try_from(resolution.tv_nsec).ok()?;
        let ms = nanos.div_ceil(1_000_000);
        (resolution.tv_sec == 0 && ms > 0 && ms <= bucket_ms).then_some(2 * ms)
    }
}

/// Whole milliseconds of a duration, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tick arithmetic: time cut into buckets of one size, aligned to the clock's origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    bucket_ms: u64,
}

impl Ticks {
    /// The longest span a window may keep, in ticks: words hold the low 24 bits of a tick.
    pub(crate) const MAX_SPAN: u64 = (1 << 24) - 2;
    /// Ticks are 48 bits wide; at 1 ms that is 8 900 years.
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

    /// How many ticks cover a duration, rounded up.
    pub(crate) fn covering(self, ms: u64) -> u64 {
        ms.div_ceil(self.bucket_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_and_states_its_lag() {
        for bucket_ms in [1, 10, 1_000] {
            let clock = TimeSource::system(bucket_ms);
            assert!(clock.lag_ms() <= 2 * bucket_ms);
            let first = clock.now_ms();
            let start = Instant::now();
            while clock.now_ms() == first {
                assert!(start.elapsed() < Duration::from_secs(10), "the clock stands still");
                std::hint::spin_loop();
            }
            assert!(clock.now_ms() > first);
        }
    }

    #[test]
    fn ticks_saturate() {
        let ticks = Ticks::new(1);
        assert_eq!(ticks.at(u64::MAX), (1 << 48) - 1);
        assert_eq!(Ticks::new(u64::MAX).start_ms(7), u64::MAX);
        assert_eq!(Ticks::new(10).covering(11), 2);
    }
}

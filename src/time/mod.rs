//! Time as the engine sees it: milliseconds since an origin, and ticks of one bucket each.
//!
//! The system's clock has no lag by construction: each reading asks the hardware, between the call and its return.
//! A clock of the user's may lag behind real time by a bound that it states, but never runs ahead of it. The engine
//! holds every unit for that much longer, so a lagging clock never admits too much.

mod source;
mod system;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::source::TimeSource;
use self::system::System;

/// A source of monotonic time.
///
/// Implement it to drive a limiter from your own clock; [`ManualClock`] serves tests.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since an origin of the clock's choosing, rounded down.
    ///
    /// It must never run ahead of real time. The limiter's own time never runs back, so a reading that is earlier
    /// than the latest one is safe:
    ///
    /// - If it is at most a minute earlier, the limiter's time stands still until the clock catches up.
    /// - If it is more than a minute earlier, the limiter takes it for a correction of the clock. The limiter's time
    ///   then goes on from where it stands, at the clock's pace.
    ///
    /// A step forward counts as time that has passed: units expire, and their keys are admitted again. So one wrong
    /// reading ahead may admit the limit once more, and holds no key for more than a minute longer.
    fn now_ms(&self) -> u64;

    /// The most by which [`now_ms`](Self::now_ms) may lag behind real time, in milliseconds.
    ///
    /// It must be a true bound: a clock that stands still for 30 ms now and then has a lag of 30. The limiter holds
    /// every unit that much longer, and adds it to every retry hint.
    fn lag_ms(&self) -> u64 {
        0
    }
}

/// The operating system's monotonic clock, read precisely. It is the default.
///
/// On Linux and Android it is `CLOCK_BOOTTIME` (about 20 ns a read), which goes on while the machine is suspended.
/// Elsewhere, and on a kernel without that clock, it is [`Instant`](std::time::Instant), which may stand still then.
///
/// A reading is computed from a hardware counter during the call. So it has no lag beyond the rounding to whole
/// milliseconds, however late the kernel's timer interrupts are.
///
/// While a virtual machine is paused its clock may stand still. Its limits in memory then stay exact by that clock:
/// the pause is a time in which the program did not run either.
#[derive(Clone, Copy, Debug)]
pub struct PreciseClock(System);

impl PreciseClock {
    /// Creates a clock.
    #[must_use]
    pub fn new() -> Self {
        Self(System::new())
    }
}

impl Default for PreciseClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for PreciseClock {
    #[inline]
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
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
        let later = |now: u64| Some(now.saturating_add(millis(by)));
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
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
    fn a_manual_clock_ends_at_its_end() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_millis(5));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now_ms(), u64::MAX);
    }

    #[test]
    fn ticks_saturate() {
        let ticks = Ticks::new(1);
        assert_eq!(ticks.at(u64::MAX), (1 << 48) - 1);
        assert_eq!(Ticks::new(u64::MAX).start_ms(7), u64::MAX);
        assert_eq!(Ticks::new(10).covering(11), 2);
    }
}

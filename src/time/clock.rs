//! Sources of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::system::System;
use super::ticks::millis;

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
}

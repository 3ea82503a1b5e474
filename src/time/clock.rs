//! Sources of time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::system::System;
use super::ticks::millis;

/// A source of monotonic time.
///
/// Implement this trait to drive a limiter from your own clock. Use [`ManualClock`] in tests.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since an origin that the clock chooses, rounded down.
    ///
    /// The clock must never run ahead of real time. The limiter's own time never runs backwards, so a reading that is
    /// earlier than the latest one is safe:
    ///
    /// - If it is at most a minute earlier, the limiter's time stands still until the clock catches up.
    /// - If it is more than a minute earlier, the limiter treats it as a correction of the clock. The limiter's time
    ///   then continues from its current value, at the clock's pace.
    ///
    /// A step forward counts as elapsed time: units expire, and their keys are admitted again. A wrong reading ahead
    /// may therefore admit the limit once more. It holds no key for more than a minute longer.
    fn now_ms(&self) -> u64;

    /// The maximum lag of [`now_ms`](Self::now_ms) behind real time, in milliseconds.
    ///
    /// It must be a true bound: a clock that sometimes stands still for 30 ms has a lag of 30. The limiter holds every
    /// unit that much longer, and adds the lag to every wait.
    fn lag_ms(&self) -> u64 {
        0
    }

    /// Registers a task to wake once when the time next moves, and returns true. Returns false, which is the default, if
    /// the clock moves by itself.
    ///
    /// A call that waits for units then uses a timer in real time. A [`ManualClock`] wakes such calls, so that a test
    /// need not sleep.
    fn wake_when_moved(&self, waker: &Waker) -> bool {
        let _ = waker;
        false
    }
}

/// The operating system's monotonic clock, read precisely. This is the default.
///
/// On Linux and Android it is `CLOCK_BOOTTIME` (about 20 ns per read), which continues while the machine is suspended.
/// On other systems, and on a kernel without that clock, it is [`Instant`](std::time::Instant), which may stop during
/// a suspension.
///
/// Each call computes its reading from a hardware counter. The clock has no lag except the rounding to whole
/// milliseconds, even if the kernel's timer interrupts are late.
///
/// While a virtual machine is paused, its clock may stand still. Limits in memory stay exact by that clock, because
/// the program does not run during the pause either.
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

/// A clock that moves only when you move it. Its clones share one time.
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
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug, Default)]
struct ManualTime {
    now_ms: AtomicU64,
    /// The tasks to wake when the time moves.
    waiting: Mutex<Vec<Waker>>,
    /// Whether there are any. It is set before such a task reads the time again, so none is missed.
    is_waited_for: AtomicBool,
}

impl ManualClock {
    /// Creates a clock at time zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time forward, and drops fractions of a millisecond. Wakes the calls that wait for units.
    pub fn advance(&self, by: Duration) {
        let later = |now: u64| Some(now.saturating_add(millis(by)));
        let _ = self.0.now_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
        self.wake();
    }

    /// Sets the time, in milliseconds since the clock's origin. The time may go backwards.
    pub fn set_ms(&self, now_ms: u64) {
        self.0.now_ms.store(now_ms, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.0.is_waited_for.load(Ordering::SeqCst) {
            self.wake_waiting();
        }
    }

    #[cold]
    fn wake_waiting(&self) {
        self.0.is_waited_for.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::SeqCst)
    }

    fn wake_when_moved(&self, waker: &Waker) -> bool {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A call may register repeatedly before the time moves.
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        self.0.is_waited_for.store(true, Ordering::SeqCst);
        true
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    #[inline]
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }

    fn lag_ms(&self) -> u64 {
        (**self).lag_ms()
    }

    fn wake_when_moved(&self, waker: &Waker) -> bool {
        (**self).wake_when_moved(waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_saturates() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_millis(5));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now_ms(), u64::MAX);
    }

    #[test]
    fn a_shared_clock_has_the_time_and_the_lag_of_its_clock() {
        struct Lagging;
        impl Clock for Lagging {
            fn now_ms(&self) -> u64 {
                7
            }
            fn lag_ms(&self) -> u64 {
                30
            }
        }
        let shared: Arc<dyn Clock> = Arc::new(Lagging);
        assert_eq!((Clock::now_ms(&shared), Clock::lag_ms(&shared)), (7, 30));
    }
}

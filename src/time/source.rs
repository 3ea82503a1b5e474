//! The time of a store: the system's clock, or a custom clock that may step.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::clock::{Clock, PreciseClock};

/// A step back by more than this is a correction of the clock. For a smaller step, the time stands still.
const CORRECTION_MS: u64 = 60_000;

/// The time of a store when its clock shows 0: 32 years, which most bucket sizes divide. So units can be dated before
/// the clock's origin, which may be the start of the machine.
pub(crate) const ORIGIN_MS: u64 = 1_008_000_000_000;

/// The clock of a store. Reading the system's clock needs no virtual call.
#[derive(Clone)]
pub(crate) enum TimeSource {
    System(PreciseClock),
    Custom(Arc<Custom>),
}

/// A custom clock, and the time derived from its readings.
pub(crate) struct Custom {
    clock: Arc<dyn Clock>,
    /// The latest time that was returned.
    latest: AtomicU64,
    /// How far the store's time is ahead of the clock since a correction; 0 without one.
    ahead: AtomicU64,
    correcting: Mutex<()>,
}

impl TimeSource {
    pub(crate) fn system() -> Self {
        Self::System(PreciseClock::new())
    }

    pub(crate) fn custom(clock: Arc<dyn Clock>) -> Self {
        let (latest, ahead) = (AtomicU64::new(0), AtomicU64::new(0));
        Self::Custom(Arc::new(Custom { clock, latest, ahead, correcting: Mutex::new(()) }))
    }

    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Self::System(clock) => clock.now_ms().saturating_add(ORIGIN_MS),
            Self::Custom(custom) => custom.now_ms().saturating_add(ORIGIN_MS),
        }
    }

    pub(crate) fn lag_ms(&self) -> u64 {
        match self {
            Self::System(clock) => clock.lag_ms(),
            Self::Custom(custom) => custom.clock.lag_ms(),
        }
    }

    /// Registers a task with a clock that others move; see [`Clock::wake_when_moved`].
    pub(crate) fn wake_when_moved(&self, waker: &Waker) -> bool {
        match self {
            Self::System(_) => false,
            Self::Custom(custom) => custom.clock.wake_when_moved(waker),
        }
    }
}

impl Custom {
    /// The time, which never runs backwards; see [`Clock::now_ms`].
    #[inline]
    fn now_ms(&self) -> u64 {
        let reading = self.clock.now_ms();
        let latest = self.latest.load(Ordering::Acquire);
        if self.ahead.load(Ordering::Acquire) > 0 || reading.saturating_add(CORRECTION_MS) < latest {
            return self.correct(reading);
        }
        if reading > latest { self.latest.fetch_max(reading, Ordering::AcqRel).max(reading) } else { latest }
    }

    /// Returns the time if the clock is behind the latest time, and after a correction.
    ///
    /// A thread may arrive with an old reading. The next reading that is near the latest time ends the correction, so
    /// an old reading changes no time.
    #[cold]
    fn correct(&self, reading: u64) -> u64 {
        let _one = self.correcting.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest.load(Ordering::Acquire);
        let is_near = |time: u64| time.saturating_add(CORRECTION_MS) >= latest;
        let shown = if is_near(reading) {
            self.ahead.store(0, Ordering::Release);
            reading
        } else {
            let shown = reading.saturating_add(self.ahead.load(Ordering::Acquire));
            if !is_near(shown) {
                self.ahead.store(latest - reading, Ordering::Release);
            }
            shown
        };
        self.latest.fetch_max(shown, Ordering::AcqRel).max(shown)
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System(_) => "System",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ManualClock;

    const YEAR: u64 = 365 * 86_400_000;

    fn at(clock: &ManualClock, time: &TimeSource, ms: u64) -> u64 {
        clock.set_ms(ms);
        time.now_ms() - ORIGIN_MS
    }

    fn manual() -> (ManualClock, TimeSource) {
        let clock = ManualClock::new();
        (clock.clone(), TimeSource::custom(Arc::new(clock)))
    }

    #[test]
    fn time_stands_still_after_a_small_step_back() {
        let (clock, time) = manual();
        assert_eq!(
            [1_000, 61_000, 1_000, 30_000, 61_001].map(|ms| at(&clock, &time, ms)),
            [1_000, 61_000, 61_000, 61_000, 61_001]
        );
    }

    #[test]
    fn time_continues_after_one_reading_a_year_ahead() {
        let (clock, time) = manual();
        assert_eq!(at(&clock, &time, 5_000), 5_000);
        assert_eq!(at(&clock, &time, 5_000 + YEAR), 5_000 + YEAR);
        assert_eq!(at(&clock, &time, 6_000), 5_000 + YEAR, "time does not run backwards");
        assert_eq!(at(&clock, &time, 7_500), 6_500 + YEAR, "and it continues");
        assert_eq!(at(&clock, &time, 7_200), 6_500 + YEAR, "without running backwards");
        assert_eq!(at(&clock, &time, 7_600), 6_600 + YEAR);
    }

    #[test]
    fn a_single_reading_behind_does_not_advance_the_time() {
        let (clock, time) = manual();
        assert_eq!(at(&clock, &time, YEAR), YEAR);
        for round in 1..100 {
            assert_eq!(at(&clock, &time, round), YEAR + round - 1);
            assert_eq!(at(&clock, &time, YEAR + round), YEAR + round, "round {round}");
        }
    }

    proptest! {
        /// Time never runs backwards, and it gains no more than the clock's own steps forward.
        #[test]
        fn time_runs_no_faster_than_the_clock(steps in prop::collection::vec((0_u8..6, 0_u64..200_000), 1..200)) {
            let (clock, time) = manual();
            let (mut reading, mut forward) = (1_000_000_u64, 0_u64);
            let first = at(&clock, &time, reading);
            let mut last = first;
            for (kind, size) in steps {
                let before = reading;
                reading = match kind {
                    0 => reading.saturating_sub(size),
                    1 => reading + size,
                    2 => reading.saturating_sub(YEAR),
                    _ => reading + size % 100,
                };
                forward += reading.saturating_sub(before);
                let now = at(&clock, &time, reading);
                prop_assert!(now >= last, "{} after {}", now, last);
                prop_assert!(now - first <= forward, "{} in {}", now - first, forward);
                prop_assert!(now >= reading, "a step forward counts");
                last = now;
            }
        }

        /// After any number of steps back of at most a minute, the time is the latest reading.
        #[test]
        fn small_steps_back_move_no_time(readings in prop::collection::vec(1_000_000_u64..1_060_000, 1..200)) {
            let (clock, time) = manual();
            let mut latest = 0;
            for reading in readings {
                latest = latest.max(reading);
                prop_assert_eq!(at(&clock, &time, reading), latest);
            }
        }
    }
}

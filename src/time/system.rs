//! The clock of the operating system.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::linux::System;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use self::portable::System;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};

    /// `CLOCK_BOOTTIME`, which Linux reads without a system call since 5.3.
    ///
    /// `CLOCK_MONOTONIC` stands still while the machine is suspended, but the Redis server of a lease continues. A
    /// coarse clock is only as recent as the last timer interrupt, which may be late without a bound on a virtual
    /// machine.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct System(ClockId);

    impl System {
        pub(crate) fn new() -> Self {
            let has_boottime = clock_gettime_dynamic(DynamicClockId::Known(ClockId::Boottime)).is_ok();
            Self(if has_boottime { ClockId::Boottime } else { ClockId::Monotonic })
        }

        #[inline]
        pub(crate) fn now_ms(self) -> u64 {
            let now = clock_gettime(self.0);
            // A time namespace may set an origin in the future, so a part may be negative.
            let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
            seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod portable {
    use std::time::Instant;

    /// The time since this clock was created.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct System(Instant);

    impl System {
        pub(crate) fn new() -> Self {
            Self(Instant::now())
        }

        #[inline]
        pub(crate) fn now_ms(self) -> u64 {
            crate::time::ticks::millis(self.0.elapsed())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use crate::time::source::{ORIGIN_MS, TimeSource};
    use rustix::time::{ClockId, Timespec, clock_gettime};

    fn nanos(time: Timespec) -> i128 {
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    }

    /// A reading lies between precise stamps from before and after it, however late the timer interrupts are.
    ///
    /// The stamps come from the same clock. A reading that is late by a millisecond falls before its first stamp. So a
    /// clock that moves with the timer fails within a few reads.
    #[test]
    fn a_reading_lies_between_precise_stamps() {
        let store = TimeSource::system();
        for _ in 0..300_000 {
            let before = nanos(clock_gettime(ClockId::Boottime)) / 1_000_000;
            let reading = i128::from(store.now_ms() - ORIGIN_MS);
            let after = nanos(clock_gettime(ClockId::Boottime)) / 1_000_000;
            assert!((before..=after).contains(&reading), "{before} <= {reading} <= {after}");
        }
    }

    /// Except for suspensions, this clock and the clock of the tests' judges move by the same amount.
    #[test]
    fn it_runs_as_fast_as_the_monotonic_clock() {
        let offset = || {
            let before = nanos(clock_gettime(ClockId::Monotonic));
            let boot = nanos(clock_gettime(ClockId::Boottime));
            let after = nanos(clock_gettime(ClockId::Monotonic));
            (boot - after, boot - before)
        };
        let (mut least, mut most) = offset();
        for _ in 0..100_000 {
            let (low, high) = offset();
            (least, most) = (least.max(low), most.min(high));
        }
        assert!(least <= most + 1_000, "the offset is the same throughout: {least} to {most}");
    }
}

//! The conditions that all admissions must meet.

use std::collections::VecDeque;

/// All admissions: when, in true microseconds, and how many units.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    admitted: Vec<(u64, u64)>,
    /// The units that the server held as used, and when.
    held: Vec<(u64, u64)>,
}

impl Ledger {
    pub(super) fn admit(&mut self, us: u64, units: u64) {
        self.admitted.push((us, units));
    }

    pub(super) fn hold(&mut self, us: u64, used: u64) {
        self.held.push((us, used));
    }

    /// Ends the record; call it once at the end.
    pub(super) fn close(&mut self) {
        self.admitted.sort_unstable();
    }

    /// The units held at the end.
    pub(super) fn held_last(&self) -> u64 {
        self.held.last().map_or(0, |&(_, held)| held)
    }

    /// The units admitted in a time span.
    pub(super) fn units(&self, from_us: u64, to_us: u64) -> u64 {
        let within = |at: u64| from_us <= at && at < to_us;
        self.admitted.iter().filter(|&&(at, _)| within(at)).map(|&(_, units)| units).sum()
    }

    /// The most units admitted in one window, among windows that begin within a time span.
    pub(super) fn peak(&self, window_us: u64, from_us: u64, to_us: u64) -> u64 {
        let (mut last, mut units, mut peak) = (0, 0, 0);
        for &(at, here) in &self.admitted {
            while last < self.admitted.len() && self.admitted[last].0 < at + window_us {
                units += self.admitted[last].1;
                last += 1;
            }
            if from_us <= at && at < to_us {
                peak = peak.max(units);
            }
            units -= here;
        }
        peak
    }

    /// The most by which the held units fell short of the units admitted in the window before.
    pub(super) fn missing(&self, window_us: u64, from_us: u64) -> u64 {
        self.compare(window_us, from_us, u64::saturating_sub)
    }

    /// The most by which the held units exceeded the units admitted in the window before.
    pub(super) fn surplus(&self, window_us: u64, from_us: u64) -> u64 {
        self.compare(window_us, from_us, |admitted, held| held.saturating_sub(admitted))
    }

    // A window is half-open, so units at its two ends share no window. Units admitted exactly one window before an
    // instant do not count at it. Units admitted at the instant itself do not count either. The world samples the held
    // units before any other event of that instant.
    fn compare(&self, window_us: u64, from_us: u64, by: impl Fn(u64, u64) -> u64) -> u64 {
        let (mut first, mut last, mut units, mut most) = (0, 0, 0, 0);
        for &(at, held) in &self.held {
            while last < self.admitted.len() && self.admitted[last].0 < at {
                units += self.admitted[last].1;
                last += 1;
            }
            while first < last && self.admitted[first].0 + window_us <= at {
                units -= self.admitted[first].1;
                first += 1;
            }
            if at >= from_us {
                most = most.max(by(units, held));
            }
        }
        most
    }
}

/// A central limiter, exact to the microsecond.
#[derive(Debug)]
pub(super) struct Central {
    window_us: u64,
    capacity: u64,
    admitted: VecDeque<(u64, u64)>,
    held: u64,
}

impl Central {
    pub(super) fn new(window_us: u64, capacity: u64) -> Self {
        Self { window_us, capacity, admitted: VecDeque::new(), held: 0 }
    }

    pub(super) fn admits(&mut self, us: u64, cost: u64) -> bool {
        while let Some(&(at, units)) = self.admitted.front()
            && at + self.window_us <= us
        {
            self.held -= units;
            self.admitted.pop_front();
        }
        let fits = self.held + cost <= self.capacity;
        if fits {
            self.admitted.push_back((us, cost));
            self.held += cost;
        }
        fits
    }
}

#[test]
fn the_judge_finds_excess_admissions() {
    let mut ledger = Ledger::default();
    for at in [0, 400, 999, 1_000, 1_001] {
        ledger.admit(at, 1);
    }
    ledger.hold(500, 2);
    ledger.hold(1_002, 2);
    ledger.close();
    assert_eq!(ledger.peak(1_000, 0, u64::MAX), 4);
    assert_eq!(ledger.peak(1_000, 0, 400), 3);
    assert_eq!(ledger.missing(1_000, 0), 2);
    assert_eq!(ledger.units(0, 1_000), 3);
}

#[test]
fn the_judge_counts_neither_end_of_the_window_before_an_instant() {
    let mut ledger = Ledger::default();
    ledger.admit(400, 1);
    ledger.admit(1_400, 4);
    // The instants are just before the later admission, at it, and just after it.
    ledger.hold(1_399, 0);
    ledger.hold(1_400, 0);
    ledger.hold(1_401, 0);
    ledger.close();
    let missing = |from| ledger.missing(1_000, from);
    assert_eq!((missing(0), missing(1_400)), (4, 4));
    ledger.held = vec![(1_399, 0), (1_400, 0)];
    assert_eq!((ledger.missing(1_000, 0), ledger.missing(1_000, 1_400)), (1, 0));
}

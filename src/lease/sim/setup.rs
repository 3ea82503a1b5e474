//! One course of the simulation: the demand, and the faults.

use super::super::limit_set::OwnedLimitSet;
use super::instance::DEADLINE_MS;
use crate::engine::Limit;
use crate::quota::Tolerance;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000 * MS;
pub(super) const BUCKET_MS: u64 = 10;
/// One course of the simulation.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) instances: usize,
    pub(super) per_second: u64,
    pub(super) window_ms: u64,
    pub(super) sync_ms: u64,
    pub(super) tolerance: f64,
    /// The demand, as a part of the limit, from an instant on.
    pub(super) load: Vec<(u64, f64)>,
    pub(super) is_skewed: bool,
    /// The time of the last request.
    pub(super) until: u64,
    pub(super) faults: Faults,
    /// The changes of the key, and their times.
    pub(super) changes: Vec<(u64, Change)>,
    /// A second limit with this multiple of the window and of the capacity; 0 for none.
    pub(super) long: (u64, u64),
    /// One request in this number costs this many units; 0 if all cost one.
    pub(super) heavy: (u32, u64),
    /// The part of the protocol that is removed.
    pub(super) without: Without,
}

/// A part of the protocol that a test removes, to observe the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// Resubmitted units leave no mark, so they count each time that they arrive.
    Marks,
    /// The server's current clock stamps reports, whatever instant decides.
    OneClock,
    /// Requests wait for a sync that never ends.
    Takeover,
    /// An instance forgets a report if its reply is lost.
    KeptReports,
    /// A forked instance keeps the name of its parent.
    NewName,
}

/// The faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// The travel time of a message, in microseconds.
    pub(super) delay: (u64, u64),
    /// The parts of the messages that travel slowly, are lost, and arrive twice.
    pub(super) slow: f64,
    pub(super) loss: f64,
    pub(super) twice: f64,
    /// Whether requests arrive twice, too, and not only reports.
    pub(super) asks_twice: bool,
    /// The parts per million by which clocks differ.
    pub(super) drift: i64,
    /// The mean life of an instance; 0 for endless.
    pub(super) life: u64,
    /// The part of the syncs whose runtime stalls.
    pub(super) freeze: f64,
    /// The random bits of an instance's name.
    pub(super) name_bits: u32,
}

/// A change of the key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Forget,
    Delete,
    Set(u64),
    Limit(u64),
    StepBack(u64),
    StepForward(u64),
    GiveBack,
    /// The instance with this number forks.
    Fork(usize),
}

pub(super) const CALM: Faults = Faults {
    delay: (200, 300),
    slow: 0.0,
    loss: 0.0,
    twice: 0.0,
    asks_twice: false,
    drift: 0,
    life: 0,
    freeze: 0.0,
    name_bits: 64,
};
pub(super) const ROUGH: Faults = Faults {
    delay: (200, 12_000),
    slow: 0.03,
    loss: 0.05,
    twice: 0.05,
    asks_twice: true,
    drift: 10_000,
    life: 4 * SECOND,
    freeze: 0.01,
    name_bits: 64,
};

impl Setup {
    pub(super) fn capacity(&self) -> u64 {
        self.per_second * self.window_ms / 1_000
    }

    /// The most units in any window.
    pub(super) fn bound(&self) -> u64 {
        Tolerance::try_from(self.tolerance).unwrap().widen(self.capacity())
    }

    pub(super) fn window_us(&self) -> u64 {
        self.window_ms * MS
    }

    pub(super) fn limits(&self, capacity: u64) -> OwnedLimitSet {
        let window = u32::try_from(self.window_ms / BUCKET_MS).unwrap();
        let short = Limit { capacity, hard: capacity, window, span: window, ticks_in_200ms: 20 };
        let (windows, capacities) = self.long;
        let (window, capacity) = (window * windows as u32, capacity * capacities);
        let long = Limit { capacity, hard: capacity, window, span: window, ticks_in_200ms: 20 };
        let limits = if windows > 0 { vec![short, long] } else { vec![short] };
        OwnedLimitSet::new(limits.into(), false, Tolerance::try_from(self.tolerance).unwrap())
    }

    pub(super) fn cost(&self, random: &mut fastrand::Rng) -> u64 {
        let (every, units) = self.heavy;
        if every > 0 && random.u32(0..every) == 0 { units } else { 1 }
    }

    /// The longest life of a lease.
    pub(super) fn longest_lease_us(&self) -> u64 {
        ((self.window_ms / 8).min(2_000).max(self.sync_ms) + self.sync_ms.max(20) + 4 * DEADLINE_MS) * MS
    }
}

//! One course of the world: who asks for how much, and what goes wrong.

use super::super::limit_set::OwnedLimitSet;
use super::instance::DEADLINE_MS;
use crate::engine::Limit;
use crate::quota::Tolerance;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000 * MS;
pub(super) const BUCKET_MS: u64 = 10;
/// One course of the world.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) instances: usize,
    pub(super) per_second: u64,
    pub(super) window_ms: u64,
    pub(super) sync_ms: u64,
    pub(super) tolerance: f64,
    /// Demand, as a part of the limit, from an instant on.
    pub(super) load: Vec<(u64, f64)>,
    pub(super) is_skewed: bool,
    /// When the last request arrives.
    pub(super) until: u64,
    pub(super) faults: Faults,
    /// What is done to the key, and when.
    pub(super) changes: Vec<(u64, Change)>,
    /// A second limit over so many of the windows, of so many of the capacities; 0 where there is none.
    pub(super) long: (u64, u64),
    /// One request in so many has a cost of that many units; 0 where all cost one.
    pub(super) heavy: (u32, u64),
    /// The part of the protocol that is taken out.
    pub(super) without: Without,
}

/// A part of the protocol that a test takes out, to see what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// What was brought back leaves no mark: each time that it arrives it counts.
    Marks,
    /// Reports are stamped by the server's clock as it is, whatever instant decides.
    OneClock,
    /// A sync that has no end is waited for.
    Takeover,
    /// A report is forgotten with the answer that does not come.
    KeptReports,
    /// A forked instance keeps the name of its parent.
    NewName,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// How long a message travels, in microseconds.
    pub(super) delay: (u64, u64),
    /// Parts of the messages that travel long, are lost, and come twice.
    pub(super) slow: f64,
    pub(super) loss: f64,
    pub(super) twice: f64,
    /// Whether requests come twice, too, and not reports alone.
    pub(super) asks_twice: bool,
    /// Parts of a million by which clocks differ.
    pub(super) drift: i64,
    /// How long an instance lives, on average; 0 for ever.
    pub(super) life: u64,
    /// The part of syncs whose runtime stands still.
    pub(super) freeze: f64,
    /// Random bits of an instance's name.
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
    /// The instance of this number is forked.
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

    /// What no window may exceed.
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

    /// The longest that a lease is lent for.
    pub(super) fn longest_lease_us(&self) -> u64 {
        ((self.window_ms / 8).min(2_000).max(self.sync_ms) + self.sync_ms.max(20) + 4 * DEADLINE_MS) * MS
    }
}

//! A refusal that stands: the same question has the same answer, so nobody needs the key's lock to give it.
//!
//! A refusal of the absolute strategy changes no state. Until the next unit of the key expires, and until another
//! request changes the key, the same cost under the same limits is refused with the same figures. So the thread that
//! refuses publishes the result beside the lock. Other threads read it without writing anything: refusals of a key
//! under attack scale with the threads.
//!
//! This is a sequence lock (Lameter, 2005; Boehm, MSPC 2012): only a thread that holds the shard's lock writes, and a
//! reader discards what it read while the version changed.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::fingerprint::Fingerprint;
use crate::decision::Verdict;
use crate::engine::{Limit, Outcome};

/// The question: a key, its limits, and a cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Question {
    low: u64,
    /// The second half of the fingerprint, mixed with the limits.
    high: u64,
    cost: u64,
}

impl Question {
    #[inline]
    pub(crate) fn new(print: Fingerprint, limits: &[Limit], cost: u64) -> Self {
        // A capacity has 40 bits and a window 24. No client chooses them, so one multiplication for each is enough.
        let mix = |mixed: u64, limit: &Limit| {
            (mixed.rotate_left(29) ^ limit.capacity ^ u64::from(limit.window) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        Self { low: print.low, high: limits.iter().fold(print.hash(), mix), cost }
    }
}

/// The published refusal of one of a shard's keys, in one cache line.
#[derive(Debug, Default)]
pub(crate) struct StandingRefusal {
    /// Odd while a thread writes.
    version: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    cost: AtomicU64,
    /// The first tick at which the refusal stands, in 48 bits, the index of the binding limit, and the limits that
    /// refuse.
    since: AtomicU64,
    /// The units in use, in 40 bits, and for how many ticks the refusal stands.
    used: AtomicU64,
    /// The units in use when the cost fits, in 40 bits, and the age of the newest unit at the first tick.
    then: AtomicU64,
    fits_at: AtomicU64,
}

const UNIT_BITS: u32 = 40;
const TICK_BITS: u32 = 48;
/// The longest time that is recorded, in ticks.
const MOST_TICKS: u64 = (1 << 24) - 1;

/// A refusal that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    since: u64,
    used: u64,
    then: u64,
    fits_at: u64,
}

impl Refused {
    /// The first tick at which the cost fits.
    #[inline]
    pub(crate) fn fits_at(self) -> u64 {
        self.fits_at
    }

    /// The units in use at that tick.
    #[inline]
    pub(crate) fn used_then(self) -> u64 {
        units(self.then)
    }

    pub(crate) fn outcome(self) -> Outcome {
        Outcome {
            verdict: Verdict::Rejected,
            binding: (self.since >> TICK_BITS) as u8,
            violated: (self.since >> (TICK_BITS + 8)) as u8,
            factor: 0.0,
            used: units(self.used),
            newest: tick(self.since) - (self.then >> UNIT_BITS),
            fits_at: self.fits_at,
            used_then: self.used_then(),
        }
    }
}

fn units(word: u64) -> u64 {
    word & ((1 << UNIT_BITS) - 1)
}

fn tick(word: u64) -> u64 {
    word & ((1 << TICK_BITS) - 1)
}

impl StandingRefusal {
    /// Returns the refusal for a question, if it is published and stands at `now`.
    #[inline]
    pub(crate) fn find(&self, question: Question, now: u64) -> Option<Refused> {
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let version = self.version.load(Ordering::Acquire);
        if (read(&self.low), read(&self.high), read(&self.cost)) != (question.low, question.high, question.cost) {
            return None;
        }
        let refused = Refused {
            since: read(&self.since),
            used: read(&self.used),
            then: read(&self.then),
            fits_at: read(&self.fits_at),
        };
        fence(Ordering::Acquire);
        let is_whole = version.is_multiple_of(2) && read(&self.version) == version;
        let stands = now.wrapping_sub(tick(refused.since)) < refused.used >> UNIT_BITS;
        (is_whole && stands).then_some(refused)
    }

    /// Publishes a refusal that stands from tick `now` to before tick `until`. The caller holds the shard's lock.
    pub(crate) fn publish(&self, question: Question, now: u64, until: u64, refusal: &Outcome) {
        let (length, age) = (until.saturating_sub(now).min(MOST_TICKS), now.saturating_sub(refusal.newest));
        if length == 0 || age > MOST_TICKS {
            return;
        }
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let since = now | u64::from(refusal.binding) << TICK_BITS | u64::from(refusal.violated) << (TICK_BITS + 8);
        for (word, value) in [
            (&self.low, question.low),
            (&self.high, question.high),
            (&self.cost, question.cost),
            (&self.since, since),
            (&self.used, refusal.used | length << UNIT_BITS),
            (&self.then, refusal.used_then | age << UNIT_BITS),
            (&self.fits_at, refusal.fits_at),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Ends the published refusal. The caller holds the shard's lock, and changes the key after this call.
    pub(crate) fn withdraw(&self) {
        // It then stands for no tick. A reader that reads this word in the middle of other ones finds no refusal.
        self.used.store(0, Ordering::Release);
    }
}

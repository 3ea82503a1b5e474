//! Estimates from a key's first requests whether its values repeat.

use std::array;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::telemetry::{Notice, notify};

/// The number of sampled requests.
const SAMPLE: u32 = 4_096;
/// The bits of the sketch, twice as many as values.
const BITS: u64 = 8_192;
/// The bits that a sample sets if nine in ten values are distinct, give or take 25.
///
/// The formula is BITS * (1 - exp(-0.9 * SAMPLE / BITS)). See Whang, Vander-Zanden and Taylor, "A
/// linear-time probabilistic counting algorithm", 1990.
const MANY: u32 = 2_969;

/// A sketch of the values of a plain key.
pub(super) struct CardinalitySketch {
    hasher: RandomState,
    seen: AtomicU32,
    /// The number of set bits.
    set: AtomicU32,
    /// One bit per value, chosen by its hash.
    bits: [AtomicU64; (BITS / 64) as usize],
}

impl CardinalitySketch {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            seen: AtomicU32::new(0),
            set: AtomicU32::new(0),
            bits: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Samples a request's value. After the sample, this is one load.
    #[inline]
    pub(super) fn see(&self, value: &[u8]) {
        if self.seen.load(Ordering::Relaxed) < SAMPLE && self.is_judged_many(value) {
            notify(Notice::HeaderValuePerRequest, None);
        }
    }

    /// Counts a value. Returns whether it completes the sample and most values were distinct.
    #[cold]
    fn is_judged_many(&self, value: &[u8]) -> bool {
        let place = self.hasher.hash_one(value) % BITS;
        let bit = 1 << (place % 64);
        if self.bits[(place / 64) as usize].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.set.fetch_add(1, Ordering::Relaxed);
        }
        self.seen.fetch_add(1, Ordering::Relaxed) == SAMPLE - 1 && self.set.load(Ordering::Relaxed) >= MANY
    }
}

impl fmt::Debug for CardinalitySketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardinalitySketch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether most of these values are distinct, and after how many requests.
    fn judged(values: impl Iterator<Item = u64>) -> Option<usize> {
        let all = CardinalitySketch::new();
        values.map(u64::to_le_bytes).position(|value| all.is_judged_many(&value))
    }

    #[test]
    fn only_mostly_distinct_values_are_reported() {
        let sample = SAMPLE as usize;
        assert_eq!(judged(0..10_000), Some(sample - 1), "at the end of the sample, and once");
        // One value in twenty repeats.
        assert_eq!(judged((0..10_000).map(|n| if n % 20 == 0 { 0 } else { n })), Some(sample - 1));
        for (share, repeats) in [(2, "half"), (5, "a fifth")] {
            assert_eq!(judged((0..10_000).map(|n| if n % share == 0 { 0 } else { n })), None, "{repeats} repeat");
        }
        for clients in [1, 100, 1_000, 3_000] {
            assert_eq!(judged((0..10_000).map(|n| n % clients)), None, "{clients} clients");
        }
        assert_eq!(judged(0..u64::from(SAMPLE) - 1), None, "too few requests");
    }
}

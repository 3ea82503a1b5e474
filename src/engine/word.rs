//! The words of a history.

/// A word `[tick: 24 | cum: 40]`; see the [module docs](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const CUM_BITS: u32 = 40;
const CUM_MASK: u64 = (1 << CUM_BITS) - 1;
const TICK_BITS: u32 = 24;
pub(super) const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

/// The most words of one key.
pub(super) const MOST_WORDS: usize = (1 << 13) - 1;

impl Word {
    #[inline]
    pub(super) fn new(tick: u64, cum: u64) -> Self {
        Self((tick << CUM_BITS) | (cum & CUM_MASK))
    }

    #[inline]
    pub(super) fn cum(self) -> u64 {
        self.0 & CUM_MASK
    }

    /// The low 24 bits of the tick.
    #[inline]
    pub(super) fn tick(self) -> u64 {
        self.0 >> CUM_BITS
    }

    #[inline]
    pub(super) fn with_cum(self, cum: u64) -> Self {
        Self((self.0 & !CUM_MASK) | (cum & CUM_MASK))
    }

    /// Returns by how many ticks this word is older than the full tick `of`, which is at most 2^24 - 1 ticks later.
    #[inline]
    pub(super) fn age(self, of: u64) -> u64 {
        of.wrapping_sub(self.tick()) & TICK_MASK
    }
}

/// Returns the units between two running totals.
#[inline]
pub(super) fn between(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & CUM_MASK
}

/// Combines the high bits next to `base` with the low bits of a word to a full tick.
#[inline]
pub(super) fn full_tick(base: Word, open: Word) -> u64 {
    (base.tick() << TICK_BITS) | open.tick()
}

/// Returns the base word of a window at a full tick: the high bits of the tick, and a running total.
#[inline]
pub(super) fn base_word(tick: u64, cum: u64) -> Word {
    Word::new(tick >> TICK_BITS, cum)
}

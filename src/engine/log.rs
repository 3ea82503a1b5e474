//! Words, and the log of a key's closed buckets.

use std::collections::VecDeque;

use super::limit::Horizon;
use super::suppressed::Shed;

/// A word: `[tick: 24 | cum: 40]`, see the [module docs](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const CUM_BITS: u32 = 40;
const CUM_MASK: u64 = (1 << CUM_BITS) - 1;
const TICK_BITS: u32 = 24;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

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

    /// How many ticks this word is older than the full tick `of`, which is at most 2^24 - 1 later.
    #[inline]
    pub(super) fn age(self, of: u64) -> u64 {
        of.wrapping_sub(self.tick()) & TICK_MASK
    }
}

/// Units between two running totals.
#[inline]
pub(super) fn between(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & CUM_MASK
}

/// Joins a full tick from the high bits kept beside `base` and the low bits of a word.
#[inline]
pub(super) fn full_tick(base: Word, open: Word) -> u64 {
    (base.tick() << TICK_BITS) | open.tick()
}

/// The base word of a window at a full tick: the tick's high bits, and a running total.
#[inline]
pub(super) fn base_word(tick: u64, cum: u64) -> Word {
    Word::new(tick >> TICK_BITS, cum)
}

/// What a key needs beyond its open bucket: allocated when a second bucket or a shed request comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// Closed buckets, oldest first; ticks and running totals rise.
    pub(super) words: VecDeque<Word>,
    /// Words up to this tick may hold units of earlier ticks.
    pub(super) merged_until: u64,
    pub(super) shed: Option<Box<Shed>>,
}

impl Log {
    /// The index of the first word that is at most `span` ticks old, given the open tick and how many ticks
    /// ago that was.
    #[inline]
    pub(super) fn first_live(&self, open: u64, idle: u64, span: u64) -> usize {
        match self.words.front() {
            Some(front) if idle + front.age(open) > span => {
                self.words.partition_point(|word| idle + word.age(open) > span)
            }
            _ => 0,
        }
    }

    /// Appends a closed bucket, first making room within the horizon's number of words.
    pub(super) fn push(&mut self, word: Word, open: u64, idle: u64, horizon: &Horizon) {
        if self.words.len() >= horizon.words() {
            self.coarsen(open, idle, horizon);
        }
        self.words.push_back(word);
    }

    /// Merges words that lie in one cell into the newest of them; see the [module docs](super).
    ///
    /// The cell is that of the age of the word that stays. A merged word is therefore past every window
    /// that the staying one is past, and in no smaller window does it count for longer than a cell.
    #[cold]
    fn coarsen(&mut self, open: u64, idle: u64, horizon: &Horizon) {
        let cells = horizon.cells();
        let mut kept = self.words.len();
        let mut stays: Option<(u64, u64)> = None;
        for at in (0..self.words.len()).rev() {
            let word = self.words[at];
            let (tick, age) = (open - word.age(open), idle + word.age(open));
            if stays.is_some_and(|(tick_of, cell)| tick / cell == tick_of / cell) {
                continue;
            }
            let cell = cells.clone().find(|&(span, _)| age <= span).map_or(1, |(_, cell)| cell);
            stays = Some((tick, cell));
            kept -= 1;
            self.words[kept] = word;
        }
        self.words.drain(..kept);
        self.merged_until = open;
    }
}

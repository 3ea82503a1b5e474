//! Words, and the ring in which a key's closed buckets stand.

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

/// A ring of words, oldest first, in one allocation; none while it was never used.
///
/// The first element holds where the oldest word stands, how many words there are, and how many of the
/// oldest may hold units of earlier ticks. A queue of the standard library beside a header would cost two
/// more cache misses for each bucket of a key that is not in the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(Box<[u64]>);

/// The first element, unpacked.
#[derive(Clone, Copy, Debug, Default)]
struct Meta {
    head: usize,
    len: usize,
    merged: usize,
}

impl Meta {
    const BITS: u32 = 21;
    const MASK: u64 = (1 << Self::BITS) - 1;

    #[inline]
    fn unpack(packed: u64) -> Self {
        let field = |at: u32| ((packed >> (at * Self::BITS)) & Self::MASK) as usize;
        Self { head: field(0), len: field(1), merged: field(2) }
    }

    #[inline]
    fn pack(self) -> u64 {
        self.head as u64 | (self.len as u64) << Self::BITS | (self.merged as u64) << (2 * Self::BITS)
    }
}

impl Ring {
    #[inline]
    fn meta(&self) -> Meta {
        self.0.first().copied().map_or(Meta::default(), Meta::unpack)
    }

    #[inline]
    fn set_meta(&mut self, meta: Meta) {
        if let Some(first) = self.0.first_mut() {
            *first = meta.pack();
        }
    }

    /// Where in the allocation the word with this index stands.
    #[inline]
    fn place(&self, meta: Meta, index: usize) -> usize {
        let (place, room) = (meta.head + index, self.0.len() - 1);
        1 + if place < room { place } else { place - room }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.meta().len
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Word> {
        let meta = self.meta();
        (index < meta.len).then(|| Word(self.0[self.place(meta, index)]))
    }

    #[inline]
    pub(super) fn last(&self) -> Option<Word> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Word> {
        let meta = self.meta();
        (0..meta.len).map(move |index| Word(self.0[self.place(meta, index)]))
    }

    /// Replaces the word with this index.
    pub(super) fn set(&mut self, index: usize, word: Word) {
        let meta = self.meta();
        if index < meta.len {
            let place = self.place(meta, index);
            self.0[place] = word.0;
        }
    }

    /// Whether the word with this index may hold units of earlier ticks.
    pub(super) fn is_merged(&self, index: usize) -> bool {
        index < self.meta().merged
    }

    /// Says that every word may hold units of earlier ticks.
    pub(super) fn mark_merged(&mut self) {
        let meta = self.meta();
        self.set_meta(Meta { merged: meta.len, ..meta });
    }

    /// The first index from `low` on for which `holds` is true, where it is true from some index on.
    #[inline]
    pub(super) fn first_where(&self, mut low: usize, holds: impl Fn(Word) -> bool) -> usize {
        let meta = self.meta();
        let mut high = meta.len;
        // The very first is by far the most likely.
        if low < high && holds(Word(self.0[self.place(meta, low)])) {
            return low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(Word(self.0[self.place(meta, middle)])) { high = middle } else { low = middle + 1 }
        }
        low
    }

    #[inline]
    pub(super) fn push(&mut self, word: Word) {
        let mut meta = self.meta();
        if meta.len + 1 >= self.0.len() {
            meta = self.grow();
        }
        let place = self.place(meta, meta.len);
        self.0[place] = word.0;
        self.set_meta(Meta { len: meta.len + 1, ..meta });
    }

    /// Doubles the allocation and moves the oldest word to its start.
    #[cold]
    fn grow(&mut self) -> Meta {
        let mut larger = vec![0; (2 * self.0.len()).max(4)];
        for (to, word) in larger.iter_mut().skip(1).zip(self.iter()) {
            *to = word.0;
        }
        let meta = Meta { head: 0, ..self.meta() };
        self.0 = larger.into_boxed_slice();
        meta
    }

    /// Drops the `n` oldest words.
    #[inline]
    pub(super) fn drop_oldest(&mut self, n: usize) {
        let meta = self.meta();
        if n == 0 || meta.len == 0 {
            return;
        }
        let n = n.min(meta.len);
        let head = self.place(meta, n) - 1;
        self.set_meta(Meta { head, len: meta.len - n, merged: meta.merged.saturating_sub(n) });
    }

    pub(super) fn clear(&mut self) {
        self.set_meta(Meta::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0_u8..10, 0_usize..6), 1..300)) {
            let (mut ring, mut queue) = (Ring::default(), VecDeque::new());
            for (at, (step, n)) in steps.into_iter().enumerate() {
                match step {
                    0..=6 => {
                        ring.push(Word(at as u64));
                        queue.push_back(at as u64);
                    }
                    7 => {
                        ring.drop_oldest(n);
                        queue.drain(..n.min(queue.len()));
                    }
                    8 => {
                        ring.set(n, Word(at as u64));
                        if let Some(word) = queue.get_mut(n) {
                            *word = at as u64;
                        }
                    }
                    _ if n == 0 => {
                        ring.clear();
                        queue.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(ring.len(), queue.len());
                prop_assert_eq!(ring.iter().map(|word| word.0).collect::<Vec<_>>(), queue.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ring.get(n).map(|word| word.0), queue.get(n).copied());
                prop_assert_eq!(ring.last().map(|word| word.0), queue.back().copied());
            }
        }

        #[test]
        fn the_search_finds_the_first(len in 0_usize..40, from in 0_usize..40, bound in 0_u64..45) {
            let mut ring = Ring::default();
            (0..len as u64).for_each(|n| ring.push(Word(n)));
            let expected = (from..len).find(|&n| n as u64 >= bound).unwrap_or(len.max(from));
            prop_assert_eq!(ring.first_where(from, |word| word.0 >= bound), expected);
        }

        #[test]
        fn merged_words_are_the_oldest(merged in 0_usize..20, more in 0_usize..20, gone in 0_usize..50) {
            let mut ring = Ring::default();
            (0..merged).for_each(|_| ring.push(Word(1)));
            ring.mark_merged();
            (0..more).for_each(|_| ring.push(Word(2)));
            ring.drop_oldest(gone);
            for (index, word) in ring.iter().enumerate() {
                prop_assert_eq!(ring.is_merged(index), word == Word(1));
            }
        }
    }
}

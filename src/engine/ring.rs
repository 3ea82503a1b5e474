//! Words, and the ring that stores a key's closed buckets.

/// A word `[tick: 24 | cum: 40]`; see the [module docs](super).
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

/// A ring of words, oldest first; the first word allocates it.
///
/// The positions and the tick of the oldest word are packed next to the allocation, and not inside it. So a key outside
/// the cache can close its bucket, and can detect that no unit has expired, without a load from the heap.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    words: Box<[u64]>,
    meta: PackedMeta,
}

/// The position of the oldest word, the number of words, and the low bits of the oldest word's tick.
///
/// `merged` is the number of oldest words that may hold units of earlier ticks.
#[derive(Clone, Copy, Debug, Default)]
struct Meta {
    head: usize,
    len: usize,
    merged: usize,
    tick: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct PackedMeta(u64);

impl PackedMeta {
    const BITS: u32 = 13;
    const MASK: u64 = (1 << Self::BITS) - 1;

    #[inline]
    fn unpack(self) -> Meta {
        let field = |at: u32| ((self.0 >> (at * Self::BITS)) & Self::MASK) as usize;
        Meta { head: field(0), len: field(1), merged: field(2), tick: self.0 >> (3 * Self::BITS) }
    }

    #[inline]
    fn pack(Meta { head, len, merged, tick }: Meta) -> Self {
        let field = |value: usize, at: u32| (value as u64) << (at * Self::BITS);
        Self(field(head, 0) | field(len, 1) | field(merged, 2) | tick << (3 * Self::BITS))
    }
}

impl Ring {
    /// The most words in a ring.
    pub(super) const MOST: usize = PackedMeta::MASK as usize;

    /// The position of the word with this index.
    #[inline]
    fn place(&self, meta: Meta, index: usize) -> usize {
        let (place, room) = (meta.head + index, self.words.len());
        if place < room { place } else { place - room }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.meta.unpack().len
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Word> {
        let meta = self.meta.unpack();
        (index < meta.len).then(|| Word(self.words[self.place(meta, index)]))
    }

    /// The age of the oldest word, if the ring has one; see [`Word::age`].
    #[inline]
    pub(super) fn oldest_age(&self, of: u64) -> Option<u64> {
        let meta = self.meta.unpack();
        (meta.len > 0).then(|| Word::new(meta.tick, 0).age(of))
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Word> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Replaces the word with this index.
    pub(super) fn set(&mut self, index: usize, word: Word) {
        let meta = self.meta.unpack();
        if index < meta.len {
            self.words[self.place(meta, index)] = word.0;
        }
        if index == 0 {
            self.meta = PackedMeta::pack(Meta { tick: word.tick(), ..meta });
        }
    }

    /// Whether the word with this index may hold units of earlier ticks.
    pub(super) fn is_merged(&self, index: usize) -> bool {
        index < self.meta.unpack().merged
    }

    /// Records that every word may hold units of earlier ticks.
    pub(super) fn mark_merged(&mut self) {
        let meta = self.meta.unpack();
        self.meta = PackedMeta::pack(Meta { merged: meta.len, ..meta });
    }

    /// Returns the first index from `low` on at which `holds` is true, if `holds` stays true from some index on.
    #[inline]
    pub(super) fn first_where(&self, mut low: usize, holds: impl Fn(Word) -> bool) -> usize {
        let meta = self.meta.unpack();
        let mut high = meta.len;
        // The first index is by far the most likely one.
        if low < high && holds(Word(self.words[self.place(meta, low)])) {
            return low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(Word(self.words[self.place(meta, middle)])) { high = middle } else { low = middle + 1 }
        }
        low
    }

    #[inline]
    pub(super) fn push(&mut self, word: Word) {
        let mut meta = self.meta.unpack();
        if meta.len == self.words.len() {
            self.grow();
            meta.head = 0;
        }
        self.words[self.place(meta, meta.len)] = word.0;
        let tick = if meta.len == 0 { word.tick() } else { meta.tick };
        self.meta = PackedMeta::pack(Meta { len: meta.len + 1, tick, ..meta });
    }

    /// Doubles the allocation and moves the oldest word to its start.
    #[cold]
    fn grow(&mut self) {
        let head = self.meta.unpack().head;
        let mut larger = Vec::with_capacity((2 * self.words.len()).max(4));
        larger.extend_from_slice(&self.words[head..]);
        larger.extend_from_slice(&self.words[..head]);
        larger.resize(larger.capacity(), 0);
        self.words = larger.into_boxed_slice();
    }

    /// Frees the larger part of an allocation of which less than a quarter is in use.
    pub(super) fn shrink(&mut self) {
        let meta = self.meta.unpack();
        if meta.len * 4 < self.words.len() {
            let words = (0..meta.len).filter_map(|index| self.get(index)).map(|word| word.0);
            self.words = words.collect();
            self.meta = PackedMeta::pack(Meta { head: 0, ..meta });
        }
    }

    /// Drops the `n` oldest words.
    #[inline]
    pub(super) fn drop_oldest(&mut self, n: usize) {
        let meta = self.meta.unpack();
        let n = n.min(meta.len);
        if n > 0 {
            let (len, merged) = (meta.len - n, meta.merged.saturating_sub(n));
            let tick = self.get(n).map_or(0, Word::tick);
            self.meta = PackedMeta::pack(Meta { head: self.place(meta, n), len, merged, tick });
        }
    }

    pub(super) fn clear(&mut self) {
        self.meta = PackedMeta::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_ring_keeps_words_in_order(steps in prop::collection::vec((0_u8..10, 0_usize..6), 1..300)) {
            let (mut ring, mut queue) = (Ring::default(), VecDeque::new());
            for (at, (step, n)) in steps.into_iter().enumerate() {
                match step {
                    0..=6 => {
                        ring.push(Word::new(at as u64, 7));
                        queue.push_back(Word::new(at as u64, 7).0);
                    }
                    7 => {
                        ring.drop_oldest(n);
                        queue.drain(..n.min(queue.len()));
                    }
                    8 => {
                        ring.set(n, Word::new(at as u64, 8));
                        if let Some(word) = queue.get_mut(n) {
                            *word = Word::new(at as u64, 8).0;
                        }
                    }
                    9 if n > 2 => ring.shrink(),
                    _ if n == 0 => {
                        ring.clear();
                        queue.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(ring.len(), queue.len());
                prop_assert_eq!(ring.iter().map(|word| word.0).collect::<Vec<_>>(), queue.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ring.get(n).map(|word| word.0), queue.get(n).copied());
                let oldest = queue.front().map(|&oldest| Word(oldest).age(1 << 23));
                prop_assert_eq!(ring.oldest_age(1 << 23), oldest);
            }
        }

        #[test]
        fn the_search_finds_the_first_match(len in 0_usize..40, from in 0_usize..40, bound in 0_u64..45) {
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

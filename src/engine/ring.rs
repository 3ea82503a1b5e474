//! The queue that stores a key's closed buckets.

use super::demand::ShedState;
use super::word::{MOST_WORDS, TICK_MASK, Word};

/// A queue of words, oldest first. All but the newest are in a ring on the heap, which the third word allocates.
///
/// A key outside the cache costs a memory access for each cache line, and the heap is another line than the key's slot.
/// So the positions, the tick of the oldest word, and every other new word are in the slot. Such a key can detect that
/// no unit has expired without a load from the heap, and two closed buckets cost one store to it.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    heap: Heap,
    /// The newest word, if `meta` says that it is here.
    newest: Word,
    meta: PackedMeta,
}

/// The words of the ring. The state of the suppressed strategy shares the pointer, because few keys have one.
#[derive(Clone, Debug)]
enum Heap {
    Words(Box<[Word]>),
    Shedding(Box<Shedding>),
}

#[derive(Clone, Debug)]
struct Shedding {
    words: Box<[Word]>,
    state: ShedState,
}

/// The positions of the words.
#[derive(Clone, Copy, Debug, Default)]
struct Meta {
    /// The position of the oldest word in the ring.
    head: usize,
    /// The number of words in the ring.
    ring: usize,
    /// The number of oldest words that may hold units of earlier ticks.
    merged: usize,
    /// The low bits of the oldest word's tick.
    tick: u64,
    /// Whether one more word, the newest, is beside the ring.
    has_newest: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct PackedMeta(u64);

impl PackedMeta {
    const BITS: u32 = 13;
    const MASK: u64 = MOST_WORDS as u64;

    #[inline]
    fn unpack(self) -> Meta {
        let field = |at: u32| ((self.0 >> (at * Self::BITS)) & Self::MASK) as usize;
        let tick = (self.0 >> (3 * Self::BITS)) & TICK_MASK;
        Meta { head: field(0), ring: field(1), merged: field(2), tick, has_newest: self.0 >> 63 == 1 }
    }

    #[inline]
    fn pack(Meta { head, ring, merged, tick, has_newest }: Meta) -> Self {
        let field = |value: usize, at: u32| (value as u64) << (at * Self::BITS);
        Self(
            field(head, 0) | field(ring, 1) | field(merged, 2) | tick << (3 * Self::BITS) | u64::from(has_newest) << 63,
        )
    }
}

impl Meta {
    /// The number of words.
    #[inline]
    fn len(self) -> usize {
        self.ring + usize::from(self.has_newest)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self { heap: Heap::Words(Box::default()), newest: Word::default(), meta: PackedMeta::default() }
    }
}

impl Ring {
    #[inline]
    fn words(&self) -> &[Word] {
        match &self.heap {
            Heap::Words(words) => words,
            Heap::Shedding(shedding) => &shedding.words,
        }
    }

    #[inline]
    fn words_mut(&mut self) -> &mut Box<[Word]> {
        match &mut self.heap {
            Heap::Words(words) => words,
            Heap::Shedding(shedding) => &mut shedding.words,
        }
    }

    /// The position of a word in a ring with room for `room` words.
    #[inline]
    fn place(meta: Meta, index: usize, room: usize) -> usize {
        let place = meta.head + index;
        if place < room { place } else { place - room }
    }

    /// The word with an index below the number of words.
    #[inline]
    fn word(&self, meta: Meta, index: usize) -> Word {
        if index == meta.ring {
            return self.newest;
        }
        let words = self.words();
        words[Self::place(meta, index, words.len())]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.meta.unpack().len()
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Word> {
        let meta = self.meta.unpack();
        (index < meta.len()).then(|| self.word(meta, index))
    }

    /// The age of the oldest word, if there is one; see [`Word::age`].
    #[inline]
    pub(super) fn oldest_age(&self, of: u64) -> Option<u64> {
        let meta = self.meta.unpack();
        (meta.len() > 0).then(|| Word::new(meta.tick, 0).age(of))
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Word> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Replaces the word with this index.
    pub(super) fn set(&mut self, index: usize, word: Word) {
        let meta = self.meta.unpack();
        if index < meta.ring {
            let words = self.words_mut();
            words[Self::place(meta, index, words.len())] = word;
        } else if index < meta.len() {
            self.newest = word;
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
        self.meta = PackedMeta::pack(Meta { merged: meta.len(), ..meta });
    }

    /// Returns the first index from `low` on at which `holds` is true, if `holds` stays true from some index on.
    #[inline]
    pub(super) fn first_where(&self, mut low: usize, holds: impl Fn(Word) -> bool) -> usize {
        let meta = self.meta.unpack();
        let mut high = meta.len();
        // The first index is by far the most likely one.
        if low < high && holds(self.word(meta, low)) {
            return low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.word(meta, middle)) { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// Does the same as [`first_where`](Self::first_where), and is faster if the index is near `low`.
    #[inline]
    pub(super) fn first_near(&self, mut low: usize, holds: impl Fn(Word) -> bool) -> usize {
        let meta = self.meta.unpack();
        let mut step = 1;
        // Words near `low` are in the same cache line.
        while low + step < meta.len() && !holds(self.word(meta, low + step - 1)) {
            low += step;
            step *= 2;
        }
        self.first_where(low, holds)
    }

    /// Adds a word.
    #[inline]
    pub(super) fn push(&mut self, word: Word) {
        if !self.push_within(word) {
            self.grow();
            self.push_within(word);
        }
    }

    /// Adds a word if there is room for it; returns whether there was.
    #[inline]
    pub(super) fn push_within(&mut self, word: Word) -> bool {
        let mut meta = self.meta.unpack();
        if meta.has_newest {
            let newest = self.newest;
            let words = self.words_mut();
            let room = words.len();
            if meta.ring + 2 > room {
                return false;
            }
            words[Self::place(meta, meta.ring, room)] = newest;
            words[Self::place(meta, meta.ring + 1, room)] = word;
            meta.ring += 2;
        } else {
            self.newest = word;
            if meta.ring == 0 {
                meta.tick = word.tick();
            }
        }
        meta.has_newest = !meta.has_newest;
        self.meta = PackedMeta::pack(meta);
        true
    }

    /// Doubles the allocation and moves the oldest word to its start.
    #[cold]
    fn grow(&mut self) {
        let meta = self.meta.unpack();
        let words = self.words();
        let mut larger = Vec::with_capacity((2 * words.len()).max(4));
        larger.extend_from_slice(&words[meta.head..]);
        larger.extend_from_slice(&words[..meta.head]);
        larger.resize(larger.capacity(), Word::default());
        *self.words_mut() = larger.into_boxed_slice();
        self.meta = PackedMeta::pack(Meta { head: 0, ..meta });
    }

    /// Frees the larger part of an allocation of which less than a quarter is in use.
    pub(super) fn shrink(&mut self) {
        let meta = self.meta.unpack();
        if meta.ring * 4 < self.words().len() {
            let mut words: Vec<Word> = (0..meta.ring).map(|index| self.word(meta, index)).collect();
            words.resize(if meta.ring == 0 { 0 } else { meta.ring.next_power_of_two() }, Word::default());
            *self.words_mut() = words.into_boxed_slice();
            self.meta = PackedMeta::pack(Meta { head: 0, ..meta });
        }
    }

    /// Drops the `n` oldest words.
    #[inline]
    pub(super) fn drop_oldest(&mut self, n: usize) {
        let meta = self.meta.unpack();
        let n = n.min(meta.len());
        if n > 0 {
            let (in_ring, tick) = (n.min(meta.ring), self.get(n).map_or(0, Word::tick));
            self.meta = PackedMeta::pack(Meta {
                head: Self::place(meta, in_ring, self.words().len()),
                ring: meta.ring - in_ring,
                merged: meta.merged.saturating_sub(n),
                tick,
                has_newest: meta.has_newest && n == in_ring,
            });
        }
    }

    pub(super) fn clear(&mut self) {
        self.meta = PackedMeta::default();
    }

    #[inline]
    pub(super) fn shed(&self) -> Option<&ShedState> {
        match &self.heap {
            Heap::Words(_) => None,
            Heap::Shedding(shedding) => Some(&shedding.state),
        }
    }

    #[inline]
    pub(super) fn shed_mut(&mut self) -> Option<&mut ShedState> {
        match &mut self.heap {
            Heap::Words(_) => None,
            Heap::Shedding(shedding) => Some(&mut shedding.state),
        }
    }

    pub(super) fn start_shedding(&mut self) {
        if let Heap::Words(words) = &mut self.heap {
            let shedding = Shedding { words: std::mem::take(words), state: ShedState::default() };
            self.heap = Heap::Shedding(Box::new(shedding));
        }
    }

    pub(super) fn end_shedding(&mut self) {
        if let Heap::Shedding(shedding) = &mut self.heap {
            self.heap = Heap::Words(std::mem::take(&mut shedding.words));
        }
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

//! Counts the most frequent keys of a stream in bounded memory.
//!
//! This is Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", ICDT 2005). An unknown key takes the counter with the smallest count, and inherits this count as its
//! error. Of N events, each key with more than N / size events has a counter.
//!
//! A count only grows by one, so the counters stay sorted without a search: a counter moves to the end of the run of
//! equal counts, which is then the start of the next run. So each event takes constant time, also in a flood of new
//! keys.

use hashbrown::HashTable;

use crate::keyspace::fingerprint::Fingerprint;

use super::report::Estimate;

/// The longest key whose bytes are kept as its name.
pub(super) const LONGEST_NAME: usize = 256;

/// See the module documentation.
pub(super) struct SpaceSaving {
    counters: Box<[Counter]>,
    /// The counters by their counts, the smallest first.
    order: Box<[u16]>,
    runs: Vec<Run>,
    /// The runs that are not in use.
    free: Vec<u16>,
    index: HashTable<u16>,
    total: u64,
}

/// The count of one key. Its run has the number.
struct Counter {
    /// `None` if the counter is not in use, and its count is 0.
    print: Option<Fingerprint>,
    /// The part of the count that may belong to other keys.
    error: u64,
    /// The position in the order.
    place: u16,
    run: u16,
    /// The bytes of the key, if they are kept. The memory is used again for the next key.
    name: Vec<u8>,
    is_named: bool,
}

/// The positions in the order that have the same count.
struct Run {
    count: u64,
    first: u16,
    last: u16,
}

impl SpaceSaving {
    /// Creates `size` counters, from 1 to 1000.
    pub(super) fn new(size: usize) -> Self {
        let counter = |place| Counter { print: None, error: 0, place, run: 0, name: Vec::new(), is_named: false };
        let places = 0..u16::try_from(size).unwrap_or(u16::MAX);
        let mut runs = Vec::with_capacity(size);
        runs.push(Run { count: 0, first: 0, last: places.end.saturating_sub(1) });
        Self {
            counters: places.clone().map(counter).collect(),
            order: places.collect(),
            runs,
            free: Vec::with_capacity(size),
            // With this room, entries that were removed never make the table grow.
            index: HashTable::with_capacity(2 * size),
            total: 0,
        }
    }

    /// Counts an event of a key. `name` has its bytes if they are to be kept.
    pub(super) fn add(&mut self, print: Fingerprint, name: Option<&[u8]>) {
        self.total += 1;
        let counter = self.find(print).unwrap_or_else(|| self.take(print, name));
        self.increment(counter);
    }

    /// The number of events.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The keys that have a counter, with their bytes if these are kept.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Fingerprint, Option<&[u8]>)> {
        self.counters.iter().filter_map(|counter| Some((counter.print?, counter.is_named.then_some(&*counter.name))))
    }

    /// The bounds on the events of a key. Without a counter, it has at most as many as the smallest count.
    pub(super) fn estimate(&self, print: Fingerprint) -> Estimate {
        match self.find(print) {
            Some(counter) => {
                let count = self.count(counter);
                Estimate { at_least: count - self.counters[usize::from(counter)].error, at_most: count }
            }
            None => Estimate { at_least: 0, at_most: self.order.first().map_or(0, |smallest| self.count(*smallest)) },
        }
    }

    /// Forgets everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.total = 0;
        self.free.clear();
        self.runs.truncate(1);
        self.runs[0] = Run { count: 0, first: 0, last: self.order.len().saturating_sub(1) as u16 };
        for (counter, place) in self.counters.iter_mut().zip(0..) {
            counter.name.clear();
            (counter.print, counter.error, counter.place, counter.run) = (None, 0, place, 0);
            self.order[usize::from(place)] = place;
        }
    }

    /// Whether a key has a counter.
    pub(super) fn has(&self, print: Fingerprint) -> bool {
        self.find(print).is_some()
    }

    fn find(&self, print: Fingerprint) -> Option<u16> {
        let is_of = |counter: &u16| self.counters[usize::from(*counter)].print == Some(print);
        self.index.find(print.hash(), is_of).copied()
    }

    fn count(&self, counter: u16) -> u64 {
        self.runs[usize::from(self.counters[usize::from(counter)].run)].count
    }

    /// Gives the counter with the smallest count to another key.
    fn take(&mut self, print: Fingerprint, name: Option<&[u8]>) -> u16 {
        let taken = self.order[0];
        let error = self.count(taken);
        let counter = &mut self.counters[usize::from(taken)];
        if let Some(old) = counter.print.replace(print)
            && let Ok(entry) = self.index.find_entry(old.hash(), |other| *other == taken)
        {
            entry.remove();
        }
        counter.error = error;
        counter.name.clear();
        let name = name.filter(|name| name.len() <= LONGEST_NAME);
        counter.is_named = name.is_some();
        if let Some(name) = name {
            counter.name.reserve_exact(name.len());
            counter.name.extend_from_slice(name);
        }
        let counters = &self.counters;
        let hash = |other: &u16| counters[usize::from(*other)].print.map_or(0, Fingerprint::hash);
        self.index.insert_unique(print.hash(), taken, hash);
        taken
    }

    /// Adds one to a count.
    fn increment(&mut self, counter: u16) {
        let at = usize::from(self.counters[usize::from(counter)].run);
        let Run { count, first, last } = self.runs[at];
        self.swap(counter, last);
        let following = self.order.get(usize::from(last) + 1).map(|next| self.counters[usize::from(*next)].run);
        let next = following.filter(|next| self.runs[usize::from(*next)].count == count + 1);
        match next {
            // It is the only counter of its run.
            None if first == last => self.runs[at].count += 1,
            None => {
                self.runs[at].last -= 1;
                let new = Run { count: count + 1, first: last, last };
                self.counters[usize::from(counter)].run = self.begin(new);
            }
            Some(next) => {
                self.runs[usize::from(next)].first = last;
                self.counters[usize::from(counter)].run = next;
                if first == last {
                    self.free.push(at as u16);
                } else {
                    self.runs[at].last -= 1;
                }
            }
        }
    }

    /// Stores a run. There are never more runs than counters, because each has one.
    fn begin(&mut self, run: Run) -> u16 {
        match self.free.pop() {
            Some(at) => {
                self.runs[usize::from(at)] = run;
                at
            }
            None => {
                self.runs.push(run);
                (self.runs.len() - 1) as u16
            }
        }
    }

    /// Moves a counter to a position in the order, and the counter there to the position of the first.
    fn swap(&mut self, counter: u16, to: u16) {
        let from = std::mem::replace(&mut self.counters[usize::from(counter)].place, to);
        let other = self.order[usize::from(to)];
        self.order.swap(usize::from(from), usize::from(to));
        self.counters[usize::from(other)].place = from;
        self.counters[usize::from(counter)].place = to;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::fingerprint::Secret;

    /// The order is sorted, the runs are its parts, and no run is lost.
    fn assert_sound(summary: &SpaceSaving) {
        let counts: Vec<u64> = summary.order.iter().map(|counter| summary.count(*counter)).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        for (place, counter) in summary.order.iter().enumerate() {
            let counter = &summary.counters[usize::from(*counter)];
            let run = &summary.runs[usize::from(counter.run)];
            assert_eq!(usize::from(counter.place), place);
            assert!((run.first..=run.last).contains(&counter.place));
            assert_eq!((counts[usize::from(run.first)], counts[usize::from(run.last)]), (run.count, run.count));
        }
        let mut distinct = counts;
        distinct.dedup();
        assert_eq!(summary.runs.len() - summary.free.len(), distinct.len());
        assert!(summary.runs.len() <= summary.order.len());
        assert_eq!(summary.index.len(), summary.keys().count());
    }

    /// Frequent and rare keys, and new ones.
    fn stream() -> impl Strategy<Value = Vec<u16>> {
        let key = prop_oneof![3 => 0..4_u16, 3 => 0..40_u16, 2 => 0..2_000_u16];
        prop::collection::vec(key, 0..1_500)
    }

    proptest! {
        #[test]
        fn frequent_keys_are_listed_and_the_bounds_are_true(size in 1_usize..40, stream in stream()) {
            let secret = Secret::random();
            let mut summary = SpaceSaving::new(size);
            // The second round shows that nothing is left after the first.
            for _ in 0..2 {
                let mut naive = HashMap::<u16, u64>::new();
                for key in &stream {
                    *naive.entry(*key).or_default() += 1;
                    summary.add(secret.fingerprint(&key.to_le_bytes()), Some(&key.to_le_bytes()));
                }
                assert_sound(&summary);
                prop_assert_eq!(summary.total(), stream.len() as u64);
                let number = |name: Option<&[u8]>| u16::from_le_bytes(name.unwrap().try_into().unwrap());
                let listed: HashMap<u16, Fingerprint> =
                    summary.keys().map(|(print, name)| (number(name), print)).collect();
                for key in 0..2_000_u16 {
                    let print = secret.fingerprint(&key.to_le_bytes());
                    let (count, bounds) = (naive.get(&key).copied().unwrap_or(0), summary.estimate(print));
                    prop_assert!((bounds.at_least..=bounds.at_most).contains(&count), "{key}: {count}, {bounds:?}");
                    let is_frequent = count * size as u64 > stream.len() as u64;
                    prop_assert!(!is_frequent || listed.get(&key) == Some(&print), "{key} has {count}");
                }
                if naive.len() <= size {
                    prop_assert!(naive.iter().all(|(key, count)| {
                        let bounds = summary.estimate(secret.fingerprint(&key.to_le_bytes()));
                        bounds == Estimate { at_least: *count, at_most: *count }
                    }), "with a counter for each key, all counts are exact");
                }
                summary.clear();
                assert_sound(&summary);
                prop_assert_eq!(summary.keys().count(), 0);
            }
        }
    }

    /// Each event takes a counter from another key, and the table of fingerprints never grows.
    #[test]
    fn a_flood_of_new_keys_allocates_nothing_beyond_the_names() {
        let secret = Secret::random();
        let mut summary = SpaceSaving::new(100);
        let mut flood = |keys: std::ops::Range<u64>| {
            keys.for_each(|key| summary.add(secret.fingerprint(&key.to_le_bytes()), Some(&[7; LONGEST_NAME])));
        };
        let used = allocation_counter::measure(|| flood(0..100));
        assert_eq!(used.count_total, 100, "a name of each counter");
        let used = allocation_counter::measure(|| flood(100..200_000));
        assert_eq!(used.count_total, 0);
        assert_sound(&summary);
    }
}

//! The units that this instance's shares admitted during an outage, until Redis has the report.
//!
//! Without these reports, the end of an outage would give every key its whole limit again. The client reports the units
//! after a probe succeeds and before the breaker closes. Each unit has its age, so it leaves the window at the right
//! time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::key_name::Keyspace;

/// The most keys to remember; shares of further keys are not reported.
const MOST_KEYS: usize = 20_000;
/// The most stamps of a key. This is more than fit in a window, so the oldest has already left it.
const MOST_STAMPS: usize = 16;

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Debts {
    /// The number of keys.
    keys: AtomicUsize,
    book: Mutex<HashMap<Box<[u8]>, Debt>>,
}

/// The unreported units of one key.
pub(crate) struct Debt {
    pub(crate) keys: Arc<Keyspace>,
    /// The groups, oldest first: the time of the first unit, the time of the last unit, and the number of units.
    units: Vec<(Instant, Instant, u64)>,
}

impl Debt {
    /// Returns the age and the units of each group that is not older than `longest`.
    pub(crate) fn ages(&self, longest: Duration) -> impl Iterator<Item = (Duration, u64)> {
        let ages = self.units.iter().map(|(_, last, units)| (last.elapsed(), *units));
        ages.filter(move |(age, units)| *age <= longest && *units > 0)
    }
}

impl Debts {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.load(Ordering::Relaxed) == 0
    }

    /// Adds units that were admitted now under a key name. Units within `apart` share one stamp, which is the last
    /// time.
    pub(crate) fn owe(&self, keys: &Arc<Keyspace>, name: Box<[u8]>, units: u64, apart: Duration) {
        let now = Instant::now();
        let mut book = self.book();
        let is_full = book.len() >= MOST_KEYS;
        let debt = match book.entry(name) {
            Entry::Occupied(debt) => debt.into_mut(),
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(place) => place.insert(Debt { keys: Arc::clone(keys), units: Vec::with_capacity(1) }),
        };
        match debt.units.last_mut() {
            Some(group) if now.saturating_duration_since(group.0) < apart => {
                *group = (group.0, now, group.2.saturating_add(units));
            }
            _ => debt.units.push((now, now, units)),
        }
        if debt.units.len() > MOST_STAMPS {
            debt.units.remove(0);
        }
        self.keys.store(book.len(), Ordering::Relaxed);
    }

    /// Removes units, newest first.
    pub(crate) fn forgive(&self, name: &[u8], mut units: u64) {
        if self.is_empty() {
            return;
        }
        let mut book = self.book();
        for (.., owed) in book.get_mut(name).into_iter().flat_map(|debt| debt.units.iter_mut().rev()) {
            let gone = units.min(*owed);
            (*owed, units) = (*owed - gone, units - gone);
        }
    }

    /// Takes up to `most` keys for which `is_wanted` returns true.
    pub(crate) fn take(&self, most: usize, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<(Box<[u8]>, Debt)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut book = self.book();
        let names: Vec<Box<[u8]>> = book.keys().filter(|name| is_wanted(name)).take(most).cloned().collect();
        let taken = names.into_iter().filter_map(|name| book.remove_entry(&name)).collect();
        self.keys.store(book.len(), Ordering::Relaxed);
        taken
    }

    /// Puts back the units whose report failed.
    pub(crate) fn put_back(&self, name: Box<[u8]>, mut debt: Debt) {
        let mut book = self.book();
        if let Some(newer) = book.remove(&name) {
            debt.units.extend(newer.units);
        }
        book.insert(name, debt);
        self.keys.store(book.len(), Ordering::Relaxed);
    }

    fn book(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Debt>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time between two stamps of a key, for a window of this length.
pub(crate) fn apart(window: Duration) -> Duration {
    window / (MOST_STAMPS as u32 - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Arc<Keyspace> {
        Arc::new(Keyspace::new("weir", None))
    }

    #[test]
    fn units_are_kept_by_key_and_stamp_and_taken_once() {
        let (debts, keys) = (Debts::default(), keys());
        for _ in 0..100 {
            debts.owe(&keys, Box::from(*b"a"), 1, Duration::from_secs(60));
        }
        debts.owe(&keys, Box::from(*b"b"), 7, Duration::from_secs(60));
        debts.forgive(b"b", 3);
        let taken = debts.take(10, |name| name == b"a");
        assert_eq!(taken.len(), 1);
        assert!(taken[0].1.units.len() <= MOST_STAMPS, "{}", taken[0].1.units.len());
        assert_eq!(taken[0].1.ages(Duration::from_secs(60)).map(|(_, units)| units).sum::<u64>(), 100);
        let taken = debts.take(10, |_| true);
        assert_eq!(taken[0].1.ages(Duration::from_secs(60)).map(|(_, units)| units).sum::<u64>(), 4);
        assert!(debts.is_empty() && debts.take(10, |_| true).is_empty());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let (debts, keys) = (Debts::default(), keys());
        for number in 0..MOST_KEYS as u32 + 10 {
            debts.owe(&keys, Box::from(number.to_le_bytes()), 1, Duration::ZERO);
        }
        assert_eq!(debts.take(usize::MAX, |_| true).len(), MOST_KEYS);
    }
}

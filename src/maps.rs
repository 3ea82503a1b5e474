//! What stores keep for each key: lookup by fingerprint, the bound on keys, and their sweep.
//!
//! Many small maps rather than one: a step of the sweep visits one of them, so no lock is held for long.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::fingerprint::{Fingerprint, Prehashed, Secret};

/// Keys in one of the maps when all are full: what a sweep's step visits, give or take.
///
/// Two shards of 4 096 places hold 7 168 keys before they double. With 6 600 the maps at their bound are four
/// fifths full: the most keys for their memory, and seven deviations from doubling.
pub(crate) const KEYS_PER_MAP: usize = 6_600;
/// New keys from one step of the sweep to the next: fifteen visits pay for one new key.
const INSERTS_PER_STEP: usize = 256;
/// DashMap's least; two locks in each map.
const SHARDS_PER_MAP: usize = 2;

/// One of the maps.
pub(crate) type Map<T> = DashMap<Fingerprint, T, Prehashed>;

/// A `T` for each key, for at most so many of them.
pub(crate) struct Maps<T> {
    secret: Secret,
    maps: Box<[Map<T>]>,
    most: usize,
    keys: AtomicUsize,
    inserts: AtomicUsize,
    /// The map that the next step visits.
    cursor: AtomicUsize,
}

impl<T> Maps<T> {
    pub(crate) fn new(most: usize) -> Self {
        let maps = most.div_ceil(KEYS_PER_MAP).clamp(64, 1 << 14);
        let map = || DashMap::with_capacity_and_hasher_and_shard_amount(0, Prehashed::default(), SHARDS_PER_MAP);
        Self {
            secret: Secret::random(),
            maps: std::iter::repeat_with(map).take(maps).collect(),
            most,
            keys: AtomicUsize::new(0),
            inserts: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(crate) fn print(&self, key: &[u8]) -> Fingerprint {
        self.secret.fingerprint(key)
    }

    /// The map in which a key stands, or would.
    #[inline]
    pub(crate) fn of(&self, print: Fingerprint) -> &Map<T> {
        &self.maps[((u128::from(print.low) * self.maps.len() as u128) >> 64) as usize]
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The number of maps.
    pub(crate) fn count(&self) -> usize {
        self.maps.len()
    }

    /// Takes a place for a key, if there is one left.
    pub(crate) fn take_place(&self) -> bool {
        let take = |keys: usize| (keys < self.most).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Takes a place for a key even beyond the bound.
    pub(crate) fn force_place(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back.
    pub(crate) fn leave_place(&self) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes a new key; whether it is time for a step of the sweep.
    pub(crate) fn is_sweep_due(&self) -> bool {
        self.inserts.fetch_add(1, Ordering::Relaxed) % INSERTS_PER_STEP == INSERTS_PER_STEP - 1
    }

    /// Sweeps the next map; returns how many keys it visited.
    pub(crate) fn sweep_step(&self, keep: impl FnMut(&mut T) -> bool) -> usize {
        let at = self.cursor.fetch_add(1, Ordering::Relaxed) % self.maps.len();
        self.sweep(&self.maps[at], keep)
    }

    /// The keys of which `wanted` says so.
    #[cfg(feature = "_redis")]
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Vec<Fingerprint> {
        let entries = self.maps.iter().flat_map(DashMap::iter);
        entries.filter(|entry| wanted(entry.value())).map(|entry| *entry.key()).collect()
    }

    /// Sweeps all maps.
    pub(crate) fn sweep_all(&self, mut keep: impl FnMut(&mut T) -> bool) {
        for map in &self.maps {
            self.sweep(map, &mut keep);
        }
    }

    /// Keeps what is to be kept of a map, and no more memory than that needs.
    fn sweep(&self, map: &Map<T>, mut keep: impl FnMut(&mut T) -> bool) -> usize {
        let (mut kept, mut gone) = (0, 0);
        map.retain(|_, value| {
            let keeps = keep(value);
            *if keeps { &mut kept } else { &mut gone } += 1;
            keeps
        });
        if gone > 0 {
            self.keys.fetch_sub(gone, Ordering::Relaxed);
        }
        if map.capacity() > 4 * kept + 64 {
            map.shrink_to_fit();
        }
        kept + gone
    }

    /// The number of keys in the fullest map.
    #[cfg(test)]
    pub(crate) fn fullest(&self) -> usize {
        self.maps.iter().map(DashMap::len).max().unwrap_or(0)
    }
}

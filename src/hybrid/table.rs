//! The purses of one limit's keys: lookup, and the bound on keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};

use super::purse::{Purse, Terms};
use crate::engine::Horizon;
use crate::fingerprint::{Fingerprint, Prehashed, Secret};
use crate::redis::Keys;

/// Keys in one of the maps when the table is full: what a step of the sweep visits.
const KEYS_PER_MAP: usize = 4_000;
/// New keys from one step of the sweep to the next.
const INSERTS_PER_STEP: usize = 256;

/// The purses of one limit's name, at most `max_keys` of them.
pub(super) struct Purses {
    /// Their names in Redis, and for how long it keeps their history, by its clock.
    pub(super) keys: Arc<Keys>,
    /// For how long this instance keeps what it has admitted, by its own clock and the lag of that.
    pub(super) here: Horizon,
    secret: Secret,
    maps: Box<[DashMap<Fingerprint, Purse, Prehashed>]>,
    max_keys: usize,
    count: AtomicUsize,
    inserts: AtomicUsize,
    cursor: AtomicUsize,
}

impl Purses {
    pub(super) fn new(keys: Keys, max_keys: usize) -> Self {
        let maps = max_keys.div_ceil(KEYS_PER_MAP).clamp(64, 1 << 14);
        let map = || DashMap::with_capacity_and_hasher_and_shard_amount(0, Prehashed::default(), 2);
        Self {
            keys: Arc::new(keys),
            here: Horizon::new(Horizon::WORDS_PER_SPAN),
            secret: Secret::random(),
            maps: std::iter::repeat_with(map).take(maps).collect(),
            max_keys,
            count: AtomicUsize::new(0),
            inserts: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn print(&self, key: &[u8]) -> Fingerprint {
        self.secret.fingerprint(key)
    }

    fn map(&self, print: Fingerprint) -> &DashMap<Fingerprint, Purse, Prehashed> {
        &self.maps[((u128::from(print.low) * self.maps.len() as u128) >> 64) as usize]
    }

    /// Does something with a known key's purse, under its lock.
    #[inline]
    pub(super) fn with<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut Purse) -> R) -> Option<R> {
        self.map(print).get_mut(&print).map(|mut purse| visit(&mut purse))
    }

    /// The same with a key that may have no purse yet; nothing where there is no room for one.
    #[cold]
    pub(super) fn with_new<R>(
        &self,
        print: Fingerprint,
        key: &[u8],
        now: u64,
        terms: &Terms,
        visit: impl FnOnce(&mut Purse) -> R,
    ) -> Option<R> {
        let take = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            self.sweep_step(now, terms);
            if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return self.with(print, visit);
            }
        }
        let (result, is_new) = match self.map(print).entry(print) {
            Entry::Occupied(mut purse) => (visit(purse.get_mut()), false),
            Entry::Vacant(place) => {
                let purse = Purse::new(self.keys.names.name(key), now, &terms.scale);
                (visit(place.insert(purse).value_mut()), true)
            }
        };
        if !is_new {
            self.count.fetch_sub(1, Ordering::Relaxed);
        } else if self.inserts.fetch_add(1, Ordering::Relaxed) % INSERTS_PER_STEP == INSERTS_PER_STEP - 1 {
            self.sweep_step(now, terms);
        }
        Some(result)
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The number of steps that make up one pass.
    pub(super) fn steps(&self) -> usize {
        self.maps.len()
    }

    /// Does something with every purse.
    pub(super) fn each(&self, visit: impl Fn(&mut Purse)) {
        self.maps.iter().flat_map(DashMap::iter_mut).for_each(|mut purse| visit(&mut purse));
    }

    /// Forgets the idle keys of one map.
    pub(super) fn sweep_step(&self, now: u64, terms: &Terms) {
        let map = &self.maps[self.cursor.fetch_add(1, Ordering::Relaxed) % self.maps.len()];
        let (mut kept, mut gone) = (0, 0);
        map.retain(|_, purse| {
            let keeps = !purse.is_idle(now, &self.here, terms);
            *if keeps { &mut kept } else { &mut gone } += 1;
            keeps
        });
        self.count.fetch_sub(gone, Ordering::Relaxed);
        if map.capacity() > 4 * kept + 64 {
            map.shrink_to_fit();
        }
    }
}

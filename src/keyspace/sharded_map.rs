//! The per-key values of a store: lookup by fingerprint, the bound on keys, and the sweep.
//!
//! The keys are in many small hash tables, each behind its own lock. A step of the sweep visits one table. So no lock
//! is held for long, and no call that pays for a step is slow. Tables are allocated as keys arrive; an unused table
//! costs almost nothing.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::fingerprint::{Fingerprint, Prehashed, Secret};

/// The keys per shard when all are full, which is about what a step of the sweep visits.
///
/// A table with 1024 slots holds 896 keys before it doubles. With 825, the shards at their bound are nine tenths full,
/// and less than one in a hundred has doubled.
pub(crate) const KEYS_PER_SHARD: usize = 825;
/// The new keys between two steps of the sweep: about 25 visits pay for one new key.
const INSERTS_PER_STEP: usize = 32;
/// The fewest shards, so that threads rarely contend for one lock.
const LEAST_SHARDS: usize = 128;
/// The spins of a thread's first wait for a shard, about a microsecond; each wait is twice as long as the one before.
const FIRST_BACKOFF: u32 = 64;
/// The number of waits before the thread sleeps.
const BACKOFF_ROUNDS: u32 = 4;
/// The number of shards that are allocated together.
const SHARDS_PER_BLOCK: usize = 16;

/// The keys of a shard.
pub(crate) type Keys<T> = HashMap<Fingerprint, T, Prehashed>;

/// One `T` per key, for a bounded number of keys.
pub(crate) struct ShardedMap<T> {
    secret: Secret,
    blocks: OnceLock<Box<[OnceLock<Block<T>>]>>,
    shards: usize,
    most: usize,
    keys: AtomicUsize,
    inserts: AtomicUsize,
    /// The shard that the next step visits.
    cursor: AtomicUsize,
}

type Block<T> = Box<[Shard<T>]>;

/// A lock and its table, in one cache line.
#[repr(align(64))]
struct Shard<T>(Mutex<Places<T>>);

/// The table of a shard.
pub(crate) struct Places<T> {
    keys: Keys<T>,
    /// The number of keys that fit the table, without subtracting slots of removed keys.
    room: usize,
}

impl<T> ShardedMap<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            secret: Secret::random(),
            blocks: OnceLock::new(),
            shards: most.div_ceil(KEYS_PER_SHARD).clamp(LEAST_SHARDS, 1 << 18),
            most,
            keys: AtomicUsize::new(0),
            inserts: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(crate) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.secret.fingerprint(key)
    }

    /// The number of a key's shard, whether it contains the key or not.
    #[inline]
    fn at(&self, print: Fingerprint) -> usize {
        ((u128::from(print.low) * self.shards as u128) >> 64) as usize
    }

    /// Locks a key's shard, if it is allocated.
    #[inline]
    pub(crate) fn lock(&self, print: Fingerprint) -> Option<MutexGuard<'_, Places<T>>> {
        let at = self.at(print);
        let block = self.blocks.get()?.get(at / SHARDS_PER_BLOCK)?.get()?;
        Some(block[at % SHARDS_PER_BLOCK].lock())
    }

    /// Calls `visit` with a known key, under its lock.
    #[inline]
    pub(crate) fn known<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock(print)?.get_mut(print).map(visit)
    }

    /// Calls `visit` with all keys of a key's shard, under its lock.
    pub(crate) fn with_keys<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut Keys<T>) -> R) -> R {
        let at = self.at(print);
        let blocks = self.blocks.get_or_init(|| {
            std::iter::repeat_with(OnceLock::new).take(self.shards.div_ceil(SHARDS_PER_BLOCK)).collect()
        });
        let new = || std::iter::repeat_with(Shard::new).take(SHARDS_PER_BLOCK).collect();
        let block = blocks[at / SHARDS_PER_BLOCK].get_or_init(new);
        visit(&mut block[at % SHARDS_PER_BLOCK].lock().keys)
    }

    /// Removes a key.
    pub(crate) fn remove(&self, print: Fingerprint) -> Option<T> {
        let removed = self.lock(print)?.keys.remove(&print)?;
        self.release();
        Some(removed)
    }

    /// Removes a key if `goes` returns true for its value.
    pub(crate) fn remove_if(&self, print: Fingerprint, goes: impl FnOnce(&T) -> bool) {
        let Some(mut places) = self.lock(print) else { return };
        if places.keys.get(&print).is_some_and(goes) {
            places.keys.remove(&print);
            self.release();
        }
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The number of steps in one pass of the sweep.
    pub(crate) fn steps(&self) -> usize {
        self.shards
    }

    /// Reserves space for a key, if any is left.
    pub(crate) fn try_reserve(&self) -> bool {
        let take = |keys: usize| (keys < self.most).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Releases reserved space.
    pub(crate) fn release(&self) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a new key, or a call that contributes to the sweep like one. Returns whether a step of the sweep is due.
    pub(crate) fn is_sweep_due(&self) -> bool {
        self.inserts.fetch_add(1, Ordering::Relaxed) % INSERTS_PER_STEP == INSERTS_PER_STEP - 1
    }

    /// Sweeps the next shard; returns the number of keys that it visited.
    pub(crate) fn sweep_step(&self, keep: impl FnMut(&mut T) -> bool) -> usize {
        let at = self.cursor.fetch_add(1, Ordering::Relaxed) % self.shards;
        let block = self.blocks.get().and_then(|blocks| blocks[at / SHARDS_PER_BLOCK].get());
        block.map_or(0, |block| self.sweep(&block[at % SHARDS_PER_BLOCK], keep))
    }

    /// Returns the keys that `wanted` selects.
    #[cfg(feature = "_redis")]
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        for shard in self.made() {
            let places = shard.lock();
            found.extend(places.keys.iter().filter(|(_, value)| wanted(value)).map(|(print, _)| *print));
        }
        found
    }

    /// Sweeps all shards.
    pub(crate) fn sweep_all(&self, mut keep: impl FnMut(&mut T) -> bool) {
        for shard in self.made() {
            self.sweep(shard, &mut keep);
        }
    }

    fn made(&self) -> impl Iterator<Item = &Shard<T>> {
        self.blocks.get().into_iter().flatten().filter_map(OnceLock::get).flatten()
    }

    fn sweep(&self, shard: &Shard<T>, mut keep: impl FnMut(&mut T) -> bool) -> usize {
        let mut places = shard.lock();
        let visited = places.keys.len();
        places.keys.retain(|_, value| keep(value));
        let gone = visited - places.keys.len();
        if gone > 0 {
            self.keys.fetch_sub(gone, Ordering::Relaxed);
        }
        places.tidy();
        visited
    }

    /// The number of keys in the fullest shard.
    #[cfg(test)]
    pub(crate) fn fullest(&self) -> usize {
        self.made().map(|shard| shard.lock().keys.len()).max().unwrap_or(0)
    }
}

impl<T> Shard<T> {
    fn new() -> Self {
        Self(Mutex::new(Places { keys: Keys::default(), room: 0 }))
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Places<T>> {
        self.0.try_lock().unwrap_or_else(|| self.wait())
    }

    /// Waits for the lock, which a decision holds for about 20 ns.
    ///
    /// A waiter that polls the lock constantly takes its cache line away from the thread that works. A waiter that
    /// polls rarely lets that thread make several decisions in a row, and both threads are faster.
    #[cold]
    fn wait(&self) -> MutexGuard<'_, Places<T>> {
        for round in 0..BACKOFF_ROUNDS {
            for _ in 0..FIRST_BACKOFF << round {
                std::hint::spin_loop();
            }
            if !self.0.is_locked()
                && let Some(places) = self.0.try_lock()
            {
                return places;
            }
        }
        // The thread that holds the lock may be descheduled, so this one sleeps.
        self.0.lock()
    }
}

impl<T> Places<T> {
    #[inline]
    pub(crate) fn get_mut(&mut self, print: Fingerprint) -> Option<&mut T> {
        self.keys.get_mut(&print)
    }

    /// Frees memory that is not needed.
    ///
    /// The slot of a removed key is reused only by a key that happens to hash to it, and a table without free slots
    /// doubles. So a table in which many keys were removed is rebuilt before it doubles.
    fn tidy(&mut self) {
        let (kept, capacity) = (self.keys.len(), self.keys.capacity());
        self.room = self.room.max(capacity);
        if self.room - capacity > self.room / 16 || self.room >= 2 * (kept + kept / 8 + 2) {
            let mut keys = Keys::with_capacity_and_hasher(kept + kept / 16, Prehashed::default());
            keys.extend(self.keys.drain());
            self.room = keys.capacity();
            self.keys = keys;
        }
    }
}

//! The per-key values of a store: lookup by fingerprint, the bound on keys, and the sweep.
//!
//! The keys are in many small hash tables, each behind its own lock. A step of the sweep visits one table. So no lock
//! is held for long, and no call that pays for a step is slow. Tables are allocated as keys arrive; an unused table
//! costs almost nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hashbrown::HashTable;
pub(crate) use hashbrown::hash_table::Entry;
use spin::{Mutex, MutexGuard};

use super::fingerprint::{Fingerprint, Secret};
use super::standing_refusal::{Question, StandingRefusal};
use crate::engine::Outcome;
use crate::telemetry::TableWatch;

/// The keys per shard when all are full, which is about what a step of the sweep visits.
///
/// A table with 1024 slots holds 896 keys before it doubles. With 825, the shards at their bound are nine tenths full,
/// and less than one in a hundred has doubled. Smaller shards make a step shorter, but they are more memory to miss.
pub(crate) const KEYS_PER_SHARD: usize = 825;
/// The new keys between two turns of the sweep. A new key pays for about eight visits, so a turn is rare among calls, and
/// idle keys stay for about a seventh of their window.
const INSERTS_PER_TURN: usize = 100;
/// The most shards that a turn visits, if they are sparse.
const SHARDS_PER_TURN: usize = 16;
/// The fewest shards, so that threads rarely contend for one lock.
const LEAST_SHARDS: usize = 128;
/// The spins of a thread's first wait for a shard, about a microsecond; each wait is twice as long as the one before.
const FIRST_BACKOFF: u32 = 64;
/// The number of waits before the thread yields.
const BACKOFF_ROUNDS: u32 = 4;
/// How often it yields before it sleeps, and for how long it sleeps.
const YIELDS: u32 = 8;
const NAP: Duration = Duration::from_micros(50);
/// The number of shards that are allocated together.
const SHARDS_PER_BLOCK: usize = 16;

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
    watch: TableWatch,
}

type Block<T> = Box<[Shard<T>; SHARDS_PER_BLOCK]>;

/// A lock with its table in one cache line, and a refusal of one of its keys in the next.
#[repr(align(64))]
pub(crate) struct Shard<T> {
    places: Mutex<Places<T>>,
    refusal: StandingRefusal,
}

/// The table of a shard.
struct Places<T> {
    keys: HashTable<Slot<T>>,
    /// The number of keys that fit the table, without subtracting slots of removed keys.
    room: usize,
    /// The second half of the fingerprint that was refused last, and whether its refusal is published.
    refused: u64,
    is_published: bool,
}

/// A key and its value. A window and its fingerprint fill one cache line.
#[repr(align(64))]
pub(crate) struct Slot<T> {
    print: Fingerprint,
    pub(crate) value: T,
}

/// A locked shard. Access to a value withdraws the key's published refusal, because it may change the value.
pub(crate) struct LockedShard<'a, T> {
    places: MutexGuard<'a, Places<T>>,
    refusal: &'a StandingRefusal,
}

impl<T> ShardedMap<T> {
    pub(crate) fn new(most: usize, watch: TableWatch) -> Self {
        Self {
            secret: Secret::random(),
            blocks: OnceLock::new(),
            shards: most.div_ceil(KEYS_PER_SHARD).clamp(LEAST_SHARDS, 1 << 18),
            most,
            keys: AtomicUsize::new(0),
            inserts: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            watch,
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

    /// A key's shard, if it is allocated.
    #[inline]
    pub(crate) fn shard(&self, print: Fingerprint) -> Option<&Shard<T>> {
        let at = self.at(print);
        let block = self.blocks.get()?[at / SHARDS_PER_BLOCK].get()?;
        Some(&block[at % SHARDS_PER_BLOCK])
    }

    /// A key's shard, which is allocated if necessary.
    pub(crate) fn new_shard(&self, print: Fingerprint) -> &Shard<T> {
        let at = self.at(print);
        let blocks = self.blocks.get_or_init(|| {
            std::iter::repeat_with(OnceLock::new).take(self.shards.div_ceil(SHARDS_PER_BLOCK)).collect()
        });
        let new = || Box::new(std::array::from_fn(|_| Shard::new()));
        &blocks[at / SHARDS_PER_BLOCK].get_or_init(new)[at % SHARDS_PER_BLOCK]
    }

    /// Calls `visit` with a known key, under its lock.
    #[inline]
    pub(crate) fn known<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.shard(print)?.lock().get_mut(print).map(visit)
    }

    /// Removes a key.
    pub(crate) fn remove(&self, print: Fingerprint) -> Option<T> {
        self.remove_if(print, |_| true)
    }

    /// Removes a key if `goes` returns true for its value.
    pub(crate) fn remove_if(&self, print: Fingerprint, goes: impl FnOnce(&T) -> bool) -> Option<T> {
        let removed = self.shard(print)?.lock().remove_if(print, goes)?;
        self.release();
        self.watch.keys_removed(1, false);
        Some(removed)
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

    /// Reports what happens to the keys.
    pub(crate) fn watch(&self) -> &TableWatch {
        &self.watch
    }

    /// Counts a new key, or a call that contributes to the sweep like one. Returns whether a turn of the sweep is due.
    pub(crate) fn is_sweep_due(&self) -> bool {
        self.inserts.fetch_add(1, Ordering::Relaxed) % INSERTS_PER_TURN == INSERTS_PER_TURN - 1
    }

    /// Sweeps as many shards as hold about the keys of a full one.
    pub(crate) fn sweep_turn(&self, mut keep: impl FnMut(&mut T) -> bool) {
        let mut visited = 0;
        for _ in 0..SHARDS_PER_TURN {
            visited += self.sweep_step(&mut keep);
            if visited >= KEYS_PER_SHARD / 2 {
                break;
            }
        }
    }

    /// Sweeps the next shard; returns the number of keys that it visited.
    pub(crate) fn sweep_step(&self, keep: impl FnMut(&mut T) -> bool) -> usize {
        let at = self.cursor.fetch_add(1, Ordering::Relaxed) % self.shards;
        let block = self.blocks.get().and_then(|blocks| blocks[at / SHARDS_PER_BLOCK].get());
        block.map_or(0, |block| self.sweep(&block[at % SHARDS_PER_BLOCK], true, keep))
    }

    /// Returns the keys that `wanted` selects.
    #[cfg(feature = "_redis")]
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        for shard in self.made() {
            let shard = shard.lock();
            found.extend(shard.places.keys.iter().filter(|slot| wanted(&slot.value)).map(|slot| slot.print));
        }
        found
    }

    /// Sweeps all shards.
    pub(crate) fn sweep_all(&self, mut keep: impl FnMut(&mut T) -> bool) {
        for shard in self.made() {
            self.sweep(shard, false, &mut keep);
        }
    }

    fn made(&self) -> impl Iterator<Item = &Shard<T>> {
        self.blocks.get().into_iter().flatten().filter_map(OnceLock::get).flat_map(|block| block.iter())
    }

    fn sweep(&self, shard: &Shard<T>, is_idle: bool, mut keep: impl FnMut(&mut T) -> bool) -> usize {
        let mut locked = shard.lock();
        locked.withdraw();
        let places = &mut *locked.places;
        let visited = places.keys.len();
        places.keys.retain(|slot| keep(&mut slot.value));
        let gone = visited - places.keys.len();
        if gone > 0 {
            self.keys.fetch_sub(gone, Ordering::Relaxed);
            self.watch.keys_removed(gone, is_idle);
        }
        places.tidy();
        visited
    }

    /// The number of keys in the fullest shard.
    #[cfg(test)]
    pub(crate) fn fullest(&self) -> usize {
        self.made().map(|shard| shard.lock().places.keys.len()).max().unwrap_or(0)
    }
}

impl<T> Shard<T> {
    fn new() -> Self {
        let places = Places { keys: HashTable::new(), room: 0, refused: 0, is_published: false };
        Self { places: Mutex::new(places), refusal: StandingRefusal::default() }
    }

    /// The published refusal of one of the shard's keys.
    #[inline]
    pub(crate) fn refusal(&self) -> &StandingRefusal {
        &self.refusal
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockedShard<'_, T> {
        let places = self.places.try_lock().unwrap_or_else(|| self.wait());
        LockedShard { places, refusal: &self.refusal }
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
            if let Some(places) = self.poll() {
                return places;
            }
        }
        // The thread that holds the lock may be descheduled.
        loop {
            for _ in 0..YIELDS {
                thread::yield_now();
                if let Some(places) = self.poll() {
                    return places;
                }
            }
            // It may have a lower priority, so a thread that only yields could keep it from running.
            thread::sleep(NAP);
        }
    }

    fn poll(&self) -> Option<MutexGuard<'_, Places<T>>> {
        if self.places.is_locked() { None } else { self.places.try_lock() }
    }
}

impl<T> LockedShard<'_, T> {
    /// The value of a known key.
    #[inline]
    pub(crate) fn get_mut(&mut self, print: Fingerprint) -> Option<&mut T> {
        self.withdraw_of(print);
        self.places.keys.find_mut(print.hash(), |slot| slot.print == print).map(|slot| &mut slot.value)
    }

    /// The slot of a key, or the place for one.
    pub(crate) fn entry(&mut self, print: Fingerprint) -> Entry<'_, Slot<T>> {
        self.withdraw_of(print);
        self.places.keys.entry(print.hash(), |slot| slot.print == print, |slot| slot.print.hash())
    }

    fn remove_if(&mut self, print: Fingerprint, goes: impl FnOnce(&T) -> bool) -> Option<T> {
        self.withdraw_of(print);
        let slot = self.places.keys.find_entry(print.hash(), |slot| slot.print == print).ok()?;
        goes(&slot.get().value).then(|| slot.remove().0.value)
    }

    /// Whether the key was refused last.
    #[inline]
    pub(crate) fn is_refused(&self, print: Fingerprint) -> bool {
        self.places.refused == print.hash()
    }

    /// Publishes the refusal of a key that was refused before: `stands` are the ticks from and until which it stands.
    ///
    /// Without them, it only remembers the key. Among many keys, no refusal is read twice, and none is published.
    #[inline]
    pub(crate) fn refuse(
        &mut self,
        print: Fingerprint,
        question: Question,
        refusal: &Outcome,
        stands: Option<(u64, u64)>,
    ) {
        match stands {
            Some((since, until)) => {
                self.refusal.publish(question, since, until, refusal);
                self.places.is_published = true;
            }
            None => {
                self.withdraw();
                self.places.refused = print.hash();
            }
        }
    }

    #[inline]
    fn withdraw_of(&mut self, print: Fingerprint) {
        if self.is_refused(print) {
            self.withdraw();
        }
    }

    #[inline]
    fn withdraw(&mut self) {
        if self.places.is_published {
            self.places.is_published = false;
            self.refusal.withdraw();
        }
    }
}

impl<T> Slot<T> {
    pub(crate) fn new(print: Fingerprint, value: T) -> Self {
        Self { print, value }
    }
}

impl<T> Places<T> {
    /// Frees memory that is not needed.
    ///
    /// The slot of a removed key is reused only by a key that happens to hash to it, and a table without free slots
    /// doubles. So a table in which many keys were removed is rebuilt before it doubles.
    fn tidy(&mut self) {
        let (kept, capacity) = (self.keys.len(), self.keys.capacity());
        self.room = self.room.max(capacity);
        if self.room - capacity > self.room / 16 || self.room >= 2 * (kept + kept / 8 + 2) {
            let mut keys = HashTable::with_capacity(kept + kept / 16);
            for slot in self.keys.drain() {
                keys.insert_unique(slot.print.hash(), slot, |slot| slot.print.hash());
            }
            self.room = keys.capacity();
            self.keys = keys;
        }
    }
}

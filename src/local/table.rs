//! The windows of one limit's keys: lookup, the bound on keys, and the overflow behind it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::{DashMap, Entry};

use crate::engine::{Horizon, Window};
use crate::fingerprint::{Fingerprint, Prehashed, Secret};

/// Keys in one of the maps when the table is full: what a sweep's step visits, give or take.
///
/// Two shards of 4 096 places hold 7 168 keys before they double. With 6 600 the table at its bound is four
/// fifths full: the most keys for its memory, and seven deviations from doubling.
const KEYS_PER_MAP: usize = 6_600;
/// New keys from one step of the sweep to the next: fifteen visits pay for one new key.
const INSERTS_PER_STEP: usize = 256;
/// DashMap's least; two locks in each map.
const SHARDS_PER_MAP: usize = 2;

/// A table of windows, at most `max_keys` of them.
///
/// Many small maps rather than one: a step of the sweep visits one of them, so no lock is held for long.
pub(super) struct Table {
    secret: Secret,
    maps: Box<[DashMap<Fingerprint, Window, Prehashed>]>,
    horizon: Horizon,
    max_keys: usize,
    keys: AtomicUsize,
    inserts: AtomicUsize,
    /// The map that the next step visits.
    cursor: AtomicUsize,
    /// The tick of the last step that a full table asked for.
    forced: AtomicU64,
    /// What unknown keys share while the table is full of live ones.
    ///
    /// Shared by those who make a key known, exclusive for those who use it, and always taken before a key's
    /// lock: so no key can be charged here and start afresh there at once.
    overflow: RwLock<Window>,
}

impl Table {
    pub(super) fn new(max_keys: usize) -> Self {
        let maps = max_keys.div_ceil(KEYS_PER_MAP).clamp(64, 1 << 14);
        let map = || DashMap::with_capacity_and_hasher_and_shard_amount(0, Prehashed::default(), SHARDS_PER_MAP);
        Self {
            secret: Secret::random(),
            maps: std::iter::repeat_with(map).take(maps).collect(),
            horizon: Horizon::new(Horizon::WORDS_PER_SPAN),
            max_keys,
            keys: AtomicUsize::new(0),
            inserts: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            forced: AtomicU64::new(0),
            overflow: RwLock::new(Window::new(0)),
        }
    }

    pub(super) fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    pub(super) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    fn map(&self, print: Fingerprint) -> &DashMap<Fingerprint, Window, Prehashed> {
        &self.maps[((u128::from(print.low) * self.maps.len() as u128) >> 64) as usize]
    }

    fn overflow(&self) -> RwLockReadGuard<'_, Window> {
        self.overflow.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn overflow_mut(&self) -> RwLockWriteGuard<'_, Window> {
        self.overflow.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a decision on a key's window under its lock; an unknown key is known from then on if `keep` says so.
    #[inline]
    pub(super) fn with<R>(
        &self,
        key: &[u8],
        now: u64,
        decide: impl FnOnce(&mut Window, &Horizon) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> R {
        let print = self.secret.fingerprint(key);
        if let Some(mut window) = self.map(print).get_mut(&print) {
            return decide(&mut window, &self.horizon);
        }
        if self.reserve(now) {
            return self.with_unknown(print, now, decide, keep);
        }
        self.with_overflow(print, decide)
    }

    /// Runs a correction on a key's window, even where that takes the table over its bound.
    pub(super) fn correct<R>(
        &self,
        key: &[u8],
        now: u64,
        correct: impl FnOnce(&mut Window, &Horizon) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> R {
        self.keys.fetch_add(1, Ordering::Relaxed);
        self.with_unknown(self.secret.fingerprint(key), now, correct, keep)
    }

    /// Looks at a key's window without making the key known.
    pub(super) fn peek<R>(&self, key: &[u8], now: u64, look: impl FnOnce(&mut Window, &Horizon) -> R) -> R {
        let print = self.secret.fingerprint(key);
        if let Some(mut window) = self.map(print).get_mut(&print) {
            return look(&mut window, &self.horizon);
        }
        let mut fresh = self.fresh(&self.overflow(), now);
        look(&mut fresh, &self.horizon)
    }

    /// Changes a key's window where it is known, and else the overflow that it may have used.
    pub(super) fn settle(&self, key: &[u8], settle: impl FnOnce(&mut Window, &Horizon)) {
        self.with_overflow(self.secret.fingerprint(key), settle);
    }

    /// What an unknown key starts with: nothing, or all that the overflow holds, for it may have been this
    /// key that used it.
    fn fresh(&self, overflow: &Window, now: u64) -> Window {
        if overflow.is_idle(now, &self.horizon) { Window::new(now) } else { overflow.collapsed() }
    }

    /// Like [`with`](Self::with), for a key that most likely has no window; its place is taken already.
    #[cold]
    fn with_unknown<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl FnOnce(&mut Window, &Horizon) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> R {
        let overflow = self.overflow();
        let mut fresh = self.fresh(&overflow, now);
        let (result, is_new) = match self.map(print).entry(print) {
            Entry::Occupied(mut window) => (decide(window.get_mut(), &self.horizon), false),
            Entry::Vacant(place) => {
                let result = decide(&mut fresh, &self.horizon);
                let keeps = keep(&result);
                if keeps {
                    place.insert(fresh);
                }
                (result, keeps)
            }
        };
        drop(overflow);
        if !is_new {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        } else if self.inserts.fetch_add(1, Ordering::Relaxed) % INSERTS_PER_STEP == INSERTS_PER_STEP - 1 {
            self.sweep_step(now);
        }
        result
    }

    /// Runs a decision on a key's window if it has got one by now, and else on what the unknown share.
    #[cold]
    fn with_overflow<R>(&self, print: Fingerprint, decide: impl FnOnce(&mut Window, &Horizon) -> R) -> R {
        let mut overflow = self.overflow_mut();
        match self.map(print).get_mut(&print) {
            Some(mut window) => decide(&mut window, &self.horizon),
            None => decide(&mut overflow, &self.horizon),
        }
    }

    /// Takes a place for a new key; a full table first looks for idle ones, at most once a tick and among no
    /// more keys than a step of the sweep visits.
    fn reserve(&self, now: u64) -> bool {
        let take = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        let try_take = || self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if try_take() {
            return true;
        }
        if self.forced.load(Ordering::Relaxed) >= now || self.forced.fetch_max(now, Ordering::Relaxed) >= now {
            return false;
        }
        let mut visited = 0;
        for _ in 0..self.maps.len() {
            visited += self.sweep_step(now);
            if try_take() {
                return true;
            }
            if visited >= KEYS_PER_MAP {
                break;
            }
        }
        false
    }

    /// Forgets a key; returns what `look` saw of it.
    pub(super) fn remove<R>(&self, key: &[u8], look: impl FnOnce(&Window, &Horizon) -> R) -> Option<R> {
        let print = self.secret.fingerprint(key);
        let (_, window) = self.map(print).remove(&print)?;
        self.keys.fetch_sub(1, Ordering::Relaxed);
        Some(look(&window, &self.horizon))
    }

    pub(super) fn clear(&self, now: u64) {
        *self.overflow_mut() = Window::new(now);
        for map in &self.maps {
            self.retain(map, |_| false);
        }
    }

    /// The number of keys in the fullest map, which a step of the sweep visits.
    #[cfg(test)]
    pub(super) fn fullest_map(&self) -> usize {
        self.maps.iter().map(DashMap::len).max().unwrap_or(0)
    }

    /// The number of steps that make up one pass.
    pub(super) fn steps(&self) -> usize {
        self.maps.len()
    }

    /// Reclaims the idle keys of one map, and memory that it no longer needs; returns how many it visited.
    pub(super) fn sweep_step(&self, now: u64) -> usize {
        let at = self.cursor.fetch_add(1, Ordering::Relaxed) % self.maps.len();
        self.retain(&self.maps[at], |window| {
            window.trim(now);
            !window.is_idle(now, &self.horizon)
        })
    }

    fn retain(&self, map: &DashMap<Fingerprint, Window, Prehashed>, keep: impl Fn(&mut Window) -> bool) -> usize {
        let (mut kept, mut gone) = (0, 0);
        map.retain(|_, window| {
            let keeps = keep(window);
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
}

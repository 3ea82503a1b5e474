//! The windows of one limit's keys: lookup, the bound on keys, and the overflow behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::Entry;

use super::janitor;
use crate::engine::{Horizon, Window};
use crate::fingerprint::Fingerprint;
use crate::maps::{KEYS_PER_MAP, Maps};

/// A table of windows, at most `max_keys` of them.
pub(super) struct Table {
    maps: Maps<Window>,
    horizon: Horizon,
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
        Self {
            maps: Maps::new(max_keys),
            horizon: Horizon::new(Horizon::WORDS_PER_SPAN),
            forced: AtomicU64::new(0),
            overflow: RwLock::new(Window::new(0)),
        }
    }

    pub(super) fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    pub(super) fn len(&self) -> usize {
        self.maps.len()
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
        let print = self.maps.print(key);
        if let Some(mut window) = self.maps.of(print).get_mut(&print) {
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
        self.maps.force_place();
        self.with_unknown(self.maps.print(key), now, correct, keep)
    }

    /// Looks at a key's window without making the key known.
    pub(super) fn peek<R>(&self, key: &[u8], now: u64, look: impl FnOnce(&mut Window, &Horizon) -> R) -> R {
        let print = self.maps.print(key);
        if let Some(mut window) = self.maps.of(print).get_mut(&print) {
            return look(&mut window, &self.horizon);
        }
        let mut fresh = self.fresh(&self.overflow(), now);
        look(&mut fresh, &self.horizon)
    }

    /// Changes a key's window where it is known, and else the overflow that it may have used.
    pub(super) fn settle(&self, key: &[u8], settle: impl FnOnce(&mut Window, &Horizon)) {
        self.with_overflow(self.maps.print(key), settle);
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
        let (result, is_new) = match self.maps.of(print).entry(print) {
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
            self.maps.leave_place();
        } else if self.maps.is_sweep_due() {
            janitor::follow_fork();
            self.sweep_step(now);
        }
        result
    }

    /// Runs a decision on a key's window if it has got one by now, and else on what the unknown share.
    #[cold]
    fn with_overflow<R>(&self, print: Fingerprint, decide: impl FnOnce(&mut Window, &Horizon) -> R) -> R {
        let mut overflow = self.overflow_mut();
        match self.maps.of(print).get_mut(&print) {
            Some(mut window) => decide(&mut window, &self.horizon),
            None => decide(&mut overflow, &self.horizon),
        }
    }

    /// Takes a place for a new key; a full table first looks for idle ones, at most once a tick and among no
    /// more keys than a step of the sweep visits.
    fn reserve(&self, now: u64) -> bool {
        if self.maps.take_place() {
            return true;
        }
        if self.forced.load(Ordering::Relaxed) >= now || self.forced.fetch_max(now, Ordering::Relaxed) >= now {
            return false;
        }
        let mut visited = 0;
        for _ in 0..self.maps.count() {
            visited += self.sweep_step(now);
            if self.maps.take_place() {
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
        let print = self.maps.print(key);
        let (_, window) = self.maps.of(print).remove(&print)?;
        self.maps.leave_place();
        Some(look(&window, &self.horizon))
    }

    pub(super) fn clear(&self, now: u64) {
        *self.overflow_mut() = Window::new(now);
        self.maps.sweep_all(|_| false);
    }

    /// The number of keys in the fullest map, which a step of the sweep visits.
    #[cfg(test)]
    pub(super) fn fullest_map(&self) -> usize {
        self.maps.fullest()
    }

    /// The number of steps that make up one pass.
    pub(super) fn steps(&self) -> usize {
        self.maps.count()
    }

    /// Reclaims the idle keys of one map, and memory that it no longer needs; returns how many it visited.
    pub(super) fn sweep_step(&self, now: u64) -> usize {
        self.maps.sweep_step(|window| {
            window.trim(now);
            !window.is_idle(now, &self.horizon)
        })
    }
}

//! The purses of one limit's keys.

use std::collections::hash_map::Entry;

use super::purse::{Purse, Terms};
use crate::engine::Horizon;
use crate::fingerprint::Fingerprint;
use crate::maps::Maps;
use crate::names::Kept;
use crate::redis::Keys;

/// Words of history for each window.
const WORDS_PER_SPAN: usize = 32;

/// The purses of one limit's name, at most `max_keys` of them.
pub(super) struct Purses {
    /// Their names in Redis, and for how long it keeps their history, by its clock.
    pub(super) keys: Keys,
    /// For how long this instance keeps what it has admitted, by its own clock and the lag of that.
    pub(super) here: Horizon,
    maps: Maps<Purse>,
}

impl Purses {
    pub(super) fn new(keys: Keys, max_keys: usize) -> Self {
        // For this instance's part, and for what is brought back, a coarse history does.
        let here = Horizon::new(WORDS_PER_SPAN);
        Self { keys, here, maps: Maps::new(max_keys) }
    }

    #[inline]
    pub(super) fn print(&self, key: &[u8]) -> Fingerprint {
        self.maps.print(key)
    }

    /// Does something with a known key's purse, under its lock.
    #[inline]
    pub(super) fn with<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut Purse) -> R) -> Option<R> {
        self.maps.known(print, visit)
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
        // A full table does not look for idle keys: the syncing task does, and Redis decides meanwhile.
        if !self.maps.take_place() {
            return self.with(print, visit);
        }
        let (result, is_new) = self.maps.with_keys(print, |purses| match purses.entry(print) {
            Entry::Occupied(mut purse) => (visit(purse.get_mut()), false),
            Entry::Vacant(place) => {
                let purse = Purse::new(self.keys.names.name(key), now, &terms.scale);
                (visit(place.insert(purse)), true)
            }
        });
        if !is_new {
            self.maps.leave_place();
        } else if self.maps.is_sweep_due() {
            self.sweep_step(now, terms);
        }
        Some(result)
    }

    pub(super) fn len(&self) -> usize {
        self.maps.len()
    }

    /// The number of steps that make up one pass.
    pub(super) fn steps(&self) -> usize {
        self.maps.steps()
    }

    /// The keys with a lease that can be given back.
    pub(super) fn lenders(&self) -> Vec<Fingerprint> {
        self.maps.find(Purse::can_return)
    }

    /// Does something with every purse.
    pub(super) fn each(&self, visit: impl Fn(&mut Purse)) {
        self.maps.sweep_all(|purse| {
            visit(purse);
            true
        });
    }

    /// Forgets the idle keys of some of them.
    pub(super) fn sweep_step(&self, now: u64, terms: &Terms) {
        self.maps.sweep_step(|purse| {
            purse.trim(now, terms);
            !purse.is_idle(now, &self.here, terms)
        });
    }
}

impl Kept for Purses {
    fn keep_history(&self, spans: &[u32]) {
        self.keys.horizon.assign(spans);
        self.here.assign(spans);
    }

    fn may_go(&self, is_past: bool) -> bool {
        is_past && self.len() == 0
    }
}

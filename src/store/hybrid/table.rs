//! The states of one limit's keys.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::engine::Retention;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::registry::Kept;
use crate::keyspace::sharded_map::ShardedMap;
use crate::lease::{KeyState, StoreParams};
use crate::redis::Keyspace;

/// Words of history for each window.
const WORDS_PER_SPAN: usize = 32;

/// The states of the keys of one limit's name, at most `max_keys` of them.
pub(super) struct KeyTable {
    /// Their names in Redis, and for how long it keeps their history, by its clock.
    pub(super) keys: Keyspace,
    /// For how long this instance keeps what it has admitted, by its own clock and the lag of that.
    pub(super) here: Retention,
    map: ShardedMap<KeyState>,
}

impl KeyTable {
    pub(super) fn new(keys: Keyspace, max_keys: usize) -> Self {
        // For this instance's share, and for what is resubmitted, a coarse history does.
        let here = Retention::new(WORDS_PER_SPAN);
        Self { keys, here, map: ShardedMap::new(max_keys) }
    }

    /// A key of the table.
    pub(super) fn key_ref(self: &Arc<Self>, key: &[u8]) -> KeyRef {
        KeyRef { table: Arc::clone(self), print: self.fingerprint(key) }
    }

    #[inline]
    pub(super) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.map.fingerprint(key)
    }

    /// Does something with a known key's state, under its lock.
    #[inline]
    pub(super) fn with<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut KeyState) -> R) -> Option<R> {
        self.map.known(print, visit)
    }

    /// The same with a key that may have no state yet; nothing if there is no room for one.
    #[cold]
    pub(super) fn with_new<R>(
        &self,
        print: Fingerprint,
        key: &[u8],
        now: u64,
        params: &StoreParams,
        visit: impl FnOnce(&mut KeyState) -> R,
    ) -> Option<R> {
        // A full table does not look for idle keys: the syncing task does, and Redis decides meanwhile.
        if !self.map.try_reserve() {
            return self.with(print, visit);
        }
        let (result, is_new) = self.map.with_keys(print, |states| match states.entry(print) {
            Entry::Occupied(mut state) => (visit(state.get_mut()), false),
            Entry::Vacant(place) => {
                let state = KeyState::new(self.keys.names.name(key), now, &params.geometry);
                (visit(place.insert(state)), true)
            }
        });
        if !is_new {
            self.map.release();
        } else if self.map.is_sweep_due() {
            self.sweep_step(now, params);
        }
        Some(result)
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The number of steps that make up one pass.
    pub(super) fn steps(&self) -> usize {
        self.map.steps()
    }

    /// The keys with something that can be given back or reported.
    pub(super) fn keys_to_return(&self) -> Vec<Fingerprint> {
        self.map.find(KeyState::can_return)
    }

    /// Does something with every key.
    pub(super) fn each(&self, visit: impl Fn(&mut KeyState)) {
        self.map.sweep_all(|state| {
            visit(state);
            true
        });
    }

    /// Forgets the idle keys of some of them.
    pub(super) fn sweep_step(&self, now: u64, params: &StoreParams) {
        self.map.sweep_step(|state| {
            state.trim(now, params);
            !state.is_idle(now, &self.here, params)
        });
    }
}

impl Kept for KeyTable {
    fn keep_history(&self, spans: &[u32]) {
        self.keys.horizon.assign(spans);
        self.here.assign(spans);
    }

    fn may_go(&self, is_past: bool) -> bool {
        is_past && self.len() == 0
    }
}

/// One key of a table.
#[derive(Clone)]
pub(super) struct KeyRef {
    pub(super) table: Arc<KeyTable>,
    pub(super) print: Fingerprint,
}

impl KeyRef {
    /// Does something with the key's state, under its lock, if it is known.
    pub(super) fn with<R>(&self, visit: impl FnOnce(&mut KeyState) -> R) -> Option<R> {
        self.table.with(self.print, visit)
    }
}

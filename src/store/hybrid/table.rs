//! The states of one limit's keys.

use std::sync::Arc;

use crate::engine::Retention;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::registry::Kept;
use crate::keyspace::sharded_map::{Entry, ShardedMap, Slot};
use crate::lease::{KeyState, StoreParams};
use crate::redis::Keyspace;
use crate::telemetry::{RemoteWatch, TableWatch};

/// The words of history per window.
const WORDS_PER_SPAN: usize = 32;

/// The states of the keys of one limit's name, at most `max_keys` of them.
pub(super) struct KeyTable {
    /// The keys' names in Redis, and how long Redis retains their history, by its clock.
    pub(super) keys: Arc<Keyspace>,
    /// How long this instance retains its own admissions, by its own clock and that clock's lag.
    pub(super) here: Retention,
    map: ShardedMap<KeyState>,
    pub(super) watch: Arc<RemoteWatch>,
}

impl KeyTable {
    /// The engine's own calls have no policy.
    pub(super) fn new(keys: Keyspace, policy: Option<&str>, max_keys: usize) -> Self {
        // A coarse history is sufficient for this instance's share and for resubmissions.
        let here = Retention::new(WORDS_PER_SPAN);
        let map = ShardedMap::new(max_keys, TableWatch::new("hybrid", policy));
        Self { keys: Arc::new(keys), here, map, watch: RemoteWatch::new("hybrid", policy) }
    }

    /// A key of the table.
    pub(super) fn key_ref(self: &Arc<Self>, key: &[u8]) -> KeyRef {
        KeyRef { table: Arc::clone(self), print: self.fingerprint(key) }
    }

    #[inline]
    pub(super) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.map.fingerprint(key)
    }

    /// Calls `visit` with the state of a known key, under its lock.
    #[inline]
    pub(super) fn with<R>(&self, print: Fingerprint, visit: impl FnOnce(&mut KeyState) -> R) -> Option<R> {
        self.map.known(print, |state| self.visit(state, visit))
    }

    /// Calls `visit`, and reports a lease that the key gets or loses.
    #[inline]
    fn visit<R>(&self, state: &mut KeyState, visit: impl FnOnce(&mut KeyState) -> R) -> R {
        let had_lease = state.has_lease();
        let result = visit(state);
        self.watch.lease(had_lease, state.has_lease());
        result
    }

    /// Does the same with a key that may have no state yet; returns `None` if the table has no space for one.
    #[cold]
    pub(super) fn with_new<R>(
        &self,
        print: Fingerprint,
        key: &[u8],
        now: u64,
        params: &StoreParams,
        visit: impl FnOnce(&mut KeyState) -> R,
    ) -> Option<R> {
        // A full table does not search for idle keys here. The sync task does, and Redis decides in the meantime.
        if !self.map.try_reserve() {
            return self.with(print, visit);
        }
        let (result, is_new) = match self.map.new_shard(print).lock().entry(print) {
            Entry::Occupied(mut slot) => (self.visit(&mut slot.get_mut().value, visit), false),
            Entry::Vacant(place) => {
                let state = KeyState::new(self.keys.names.name(key), now, &params.geometry);
                (self.visit(&mut place.insert(Slot::new(print, state)).get_mut().value, visit), true)
            }
        };
        if !is_new {
            self.map.release();
            return Some(result);
        }
        self.map.watch().key_added();
        if self.map.is_sweep_due() {
            self.map.sweep_turn(|state| self.keeps(state, now, params));
        }
        Some(result)
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The number of steps in one pass.
    pub(super) fn steps(&self) -> usize {
        self.map.steps()
    }

    /// The keys with units to return or report.
    pub(super) fn keys_to_return(&self) -> Vec<Fingerprint> {
        self.map.find(KeyState::can_return)
    }

    /// Calls `visit` with every key.
    pub(super) fn each(&self, visit: impl Fn(&mut KeyState)) {
        self.map.sweep_all(|state| {
            self.visit(state, &visit);
            true
        });
    }

    /// Forgets some of the idle keys.
    pub(super) fn sweep_step(&self, now: u64, params: &StoreParams) {
        self.map.sweep_step(|state| self.keeps(state, now, params));
    }

    /// Whether a state stays; frees what it does not need.
    fn keeps(&self, state: &mut KeyState, now: u64, params: &StoreParams) -> bool {
        state.trim(now, params);
        !state.is_idle(now, &self.here, params)
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
    /// Calls `visit` with the key's state, under its lock, if the key is known.
    pub(super) fn with<R>(&self, visit: impl FnOnce(&mut KeyState) -> R) -> Option<R> {
        self.table.with(self.print, visit)
    }
}

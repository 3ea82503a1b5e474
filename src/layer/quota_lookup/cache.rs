//! The slots of the keys, bounded in number.

use std::convert::Infallible;
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Options, OptionsBuilder, UnitWeighter};

use super::slot::Slot;
use crate::keyspace::fingerprint::{Fingerprint, Secret};
use crate::keyspace::prehashed::Prehashed;

/// The part of the room for keys that have proved themselves. The rest is for keys that are looked up right now.
const ESTABLISHED: f64 = 0.75;
/// The keys that justify one more shard, and the most shards.
const KEYS_PER_SHARD: usize = 256;
const MOST_SHARDS: usize = 32;

/// At most `most_keys` slots, and those whose lookup is running.
///
/// Keys that are met again are kept over those that are met once, so a flood of new keys does not remove them.
pub(super) struct Slots {
    cache: Cache<Fingerprint, Arc<Slot>, UnitWeighter, Prehashed, Pinned>,
    secret: Secret,
}

/// Keeps the slots in use.
#[derive(Clone, Copy)]
struct Pinned;

impl Lifecycle<Fingerprint, Arc<Slot>> for Pinned {
    type RequestState = ();

    /// A running lookup holds its slot. Without it, the result would be lost, and a second lookup would start.
    fn is_pinned(&self, _: &Fingerprint, slot: &Arc<Slot>) -> bool {
        Arc::strong_count(slot) > 1
    }
}

impl Slots {
    pub(super) fn new(most_keys: usize) -> Self {
        let cache = Cache::with_options(options(most_keys.max(1)), UnitWeighter, Prehashed::default(), Pinned);
        Self { cache, secret: Secret::random() }
    }

    /// The slot of a key. A known key needs no allocation.
    #[inline]
    pub(super) fn slot(&self, key: &[u8]) -> Arc<Slot> {
        let fingerprint = self.secret.fingerprint(key);
        let Ok(slot) = self.cache.get_or_insert_with(&fingerprint, || Ok::<_, Infallible>(Arc::default()));
        slot
    }

    pub(super) fn most_keys(&self) -> u64 {
        self.cache.capacity()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }
}

/// The cache rounds the room of a shard up. So the number of shards must divide the room.
fn options(most_keys: usize) -> Options {
    let shards = 1 << (most_keys / KEYS_PER_SHARD).clamp(1, MOST_SHARDS).ilog2();
    let room = most_keys - most_keys % shards;
    let mut options = OptionsBuilder::new();
    options.shards(shards).hot_allocation(ESTABLISHED).estimated_items_capacity(room).weight_capacity(room as u64);
    options.build().unwrap_or_else(|_| unreachable!("both capacities are set"))
}

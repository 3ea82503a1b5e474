//! Names of leases and reports: no two instances use the same one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use crate::redis::script::LeaseId;

/// Draws names for one instance.
///
/// The instance's part is drawn when the first name is wanted, and drawn anew in a forked process. The copy of a
/// virtual machine's snapshot in which it is drawn already has the same names.
#[derive(Debug, Default)]
pub(super) struct NameSource {
    nonce: AtomicU64,
    /// The process that drew it; 0 where there is none yet.
    process: AtomicU32,
    counter: AtomicU32,
}

impl NameSource {
    /// A source with a given part for the instance.
    #[cfg(test)]
    pub(super) fn with_nonce(nonce: u64) -> Self {
        Self { nonce: nonce.into(), process: process::id().into(), counter: AtomicU32::new(0) }
    }

    /// A name that was not used before.
    pub(super) fn next(&self) -> LeaseId {
        let process = process::id();
        if self.process.load(Ordering::Acquire) != process {
            // Where two threads draw, names of both stay different by the counter.
            self.nonce.store(draw(process), Ordering::Release);
            self.process.store(process, Ordering::Release);
        }
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        LeaseId { nonce: self.nonce.load(Ordering::Acquire), counter }
    }
}

/// A random number of the system, never 0. A fork inherits the keys of the hash, so the process and the time go in.
pub(super) fn draw(process: u32) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    hasher.write_u128(since.map_or(0, |since| since.as_nanos()));
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_within_an_instance_and_between_instances() {
        let (one, other) = (NameSource::default(), NameSource::default());
        let (first, second, third) = (one.next(), one.next(), other.next());
        assert_eq!((first.nonce, first.counter + 1), (second.nonce, second.counter));
        assert!(first.nonce != third.nonce && first.nonce != 0);
    }

    /// As in a child process that inherited the source.
    #[test]
    fn another_process_draws_a_name_of_its_own() {
        let source = NameSource::with_nonce(7);
        assert_eq!(source.next(), LeaseId { nonce: 7, counter: 0 });
        source.process.store(process::id() ^ 1, Ordering::Relaxed);
        let inherited = source.next();
        assert_ne!(inherited.nonce, 7);
        assert_eq!(source.next().nonce, inherited.nonce);
    }

    /// Both inherit the same keys of the hash, at the same instant.
    #[test]
    fn two_children_of_one_process_draw_different_numbers() {
        let keys = RandomState::new();
        let of = |process: u32| {
            let mut hasher = keys.build_hasher();
            hasher.write_u32(process);
            hasher.finish()
        };
        assert_ne!(of(1), of(2));
        assert_ne!(draw(1), draw(1));
    }
}

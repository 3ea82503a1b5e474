//! A random name of this process for one instance; a fork gets another one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

/// A random number of the system. It is drawn at its first use, and drawn again in a forked process.
///
/// The copy of a virtual machine's snapshot has the same number if it was already drawn.
#[derive(Debug, Default)]
pub(crate) struct Nonce {
    value: AtomicU64,
    /// The process that drew the number; 0 if none has.
    process: AtomicU32,
}

impl Nonce {
    /// Returns a given number, for this process.
    #[cfg(test)]
    pub(crate) fn fixed(value: u64) -> Self {
        Self { value: value.into(), process: process::id().into() }
    }

    /// Returns the number as a forked process inherits it.
    #[cfg(test)]
    pub(crate) fn in_fork(&self) -> Self {
        let value = self.value.load(Ordering::Acquire);
        Self { value: value.into(), process: (process::id() ^ 1).into() }
    }

    /// The number, never 0.
    pub(crate) fn get(&self) -> u64 {
        let process = process::id();
        if self.process.load(Ordering::Acquire) != process {
            // If two threads draw, one of the numbers may be returned only once.
            self.value.store(draw(process), Ordering::Release);
            self.process.store(process, Ordering::Release);
        }
        self.value.load(Ordering::Acquire)
    }
}

/// Returns a random number of the system, never 0. A fork inherits the keys of the hash, so the input includes the
/// process and the time.
fn draw(process: u32) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    hasher.write_u128(since.map_or(0, |since| since.as_nanos()));
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a child process that inherited the number.
    #[test]
    fn another_process_draws_its_own_number() {
        let nonce = Nonce::fixed(7);
        assert_eq!(nonce.get(), 7);
        let inherited = nonce.in_fork();
        let own = inherited.get();
        assert_ne!(own, 7);
        assert_eq!(inherited.get(), own);
    }

    /// Both processes inherit the same hash keys at the same instant.
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

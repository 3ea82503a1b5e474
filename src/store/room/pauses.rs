use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::prehashed::Prehashed;
use crate::time::millis;

/// The maximum number of pauses. Beyond it, the one that ends first ends early.
const MOST: usize = 4_096;

/// The keys whose server asked for a pause, and the end of each pause.
#[derive(Debug)]
pub(super) struct Pauses {
    longest: Duration,
    until_ms: Mutex<HashMap<Fingerprint, u64, Prehashed>>,
    /// The end of the last pause. After it, no request needs the lock.
    last_end: AtomicU64,
}

impl Pauses {
    /// No pause lasts for more than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, until_ms: Mutex::default(), last_end: AtomicU64::new(0) }
    }

    /// Sends no request of the key for `wait` from now.
    pub(super) fn pause(&self, key: Fingerprint, wait: Duration, now: u64) {
        let end = now.saturating_add(millis(wait.min(self.longest)));
        let mut all = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(&key) {
            all.retain(|_, end| *end > now);
            let first = all.iter().min_by_key(|(_, end)| **end).map(|(key, _)| *key);
            if let Some(first) = first.filter(|_| all.len() >= MOST) {
                all.remove(&first);
            }
        }
        let known = all.entry(key).or_insert(end);
        *known = end.max(*known);
        self.last_end.fetch_max(*known, Ordering::AcqRel);
    }

    /// The milliseconds until the pause of a key ends.
    pub(super) fn wait(&self, key: Fingerprint, now: u64) -> Option<u64> {
        if self.last_end.load(Ordering::Acquire) <= now {
            return None;
        }
        let all = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&key).filter(|end| **end > now).map(|end| end - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::fingerprint::Secret;

    #[test]
    fn a_pause_ends_and_the_number_of_pauses_is_bounded() {
        let (secret, pauses) = (Secret::random(), Pauses::new(Duration::from_secs(60)));
        let key = |n: usize| secret.fingerprint(&n.to_le_bytes());
        assert_eq!(pauses.wait(key(0), 0), None);
        pauses.pause(key(0), Duration::from_secs(5), 1_000);
        pauses.pause(key(0), Duration::from_secs(2), 1_000);
        assert_eq!(pauses.wait(key(0), 2_000), Some(4_000), "the longer one counts");
        assert_eq!((pauses.wait(key(0), 6_000), pauses.wait(key(1), 2_000)), (None, None));
        pauses.pause(key(1), Duration::MAX, 7_000);
        assert_eq!(pauses.wait(key(1), 7_000), Some(60_000), "bounded");
        for n in 2..3 * MOST {
            pauses.pause(key(n), Duration::from_secs(30), 8_000);
        }
        assert!(pauses.until_ms.lock().unwrap().len() <= MOST);
        assert_eq!(pauses.wait(key(1), 8_000), Some(59_000), "those that end first make room");
    }
}

//! The deny cache: this instance refuses a key that is over its limit, until the key has free units.
//!
//! A refusal of the absolute strategy stays valid until then: no units are charged meanwhile, so the same or a larger
//! cost cannot fit earlier. The exceptions are corrections of the key and changes of its limits. Those of this instance
//! end the entry at once; those of another instance take effect when it ends.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::decision::Decision;
use crate::engine::Limit;
use crate::keyspace::fingerprint::{Fingerprint, Secret};
use crate::keyspace::prehashed::Prehashed;

/// How often a full cache may search for expired entries, which visits all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The counters of changes. With a single counter, steady refunds of some keys would discard all other refusals.
const CHANGES: usize = 256;

/// The costs of one key whose refusals the cache retains.
const COSTS: usize = 8;

/// How long a refusal that no wait can end is retained. Its figure of used units may be that old.
const NEVER_FITS: Duration = Duration::from_secs(1);

/// The valid refusals of a bounded number of keys.
pub(super) struct DenyCache {
    secret: Secret,
    entries: DashMap<Fingerprint, Vec<Entry>, Prehashed>,
    count: AtomicUsize,
    most: usize,
    /// The number of corrections of the keys that share a counter.
    changes: Box<[AtomicU64]>,
    /// The time of the last search for expired entries.
    swept: Mutex<Option<Instant>>,
}

struct Entry {
    /// Until when the entry is certainly valid, counted from before the request was sent.
    until: Instant,
    /// When the reply arrived, from which the waits count.
    received: Instant,
    cost: u64,
    limits: u64,
    refusal: Decision,
}

/// The times of a request and of its reply, and the count of corrections before the request.
#[derive(Clone, Copy)]
pub(super) struct RoundTrip {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    pub(super) changes: u64,
}

impl DenyCache {
    /// An entry is small. A flood uses one key or many; with many, each costs the server one decision.
    pub(super) const MOST: usize = 100_000;

    pub(super) fn new(most: usize) -> Self {
        Self {
            secret: Secret::random(),
            entries: DashMap::with_hasher(Prehashed::default()),
            count: AtomicUsize::new(0),
            most,
            changes: std::iter::repeat_with(AtomicU64::default).take(CHANGES).collect(),
            swept: Mutex::default(),
        }
    }

    /// Returns the valid refusal for this cost and these limits, if there is one.
    pub(super) fn get(&self, key: &[u8], cost: u64, limits: &[Limit]) -> Option<Decision> {
        // As long as no key is refused, no request pays for a lookup.
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (print, now) = (self.secret.fingerprint(key), Instant::now());
        let entries = self.entries.get(&print)?;
        // A larger cost does not fit either, but only the server knows how long it must wait.
        let is_it = |entry: &&Entry| cost == entry.cost && now < entry.until && entry.limits == Limit::digest(limits);
        if let Some(entry) = entries.iter().find(is_it) {
            return Some(entry.refusal.later(now.saturating_duration_since(entry.received)));
        }
        let are_over = entries.iter().all(|entry| now >= entry.until);
        drop(entries);
        if are_over {
            self.remove(print, |entries| entries.iter().all(|entry| now >= entry.until));
        }
        None
    }

    /// The count of corrections that a reply must match; read it before the call.
    pub(super) fn changes(&self, key: &[u8]) -> u64 {
        self.counter(self.secret.fingerprint(key)).load(Ordering::Acquire)
    }

    fn counter(&self, print: Fingerprint) -> &AtomicU64 {
        &self.changes[print.low as usize % CHANGES]
    }

    /// Remembers a refusal of the absolute strategy.
    ///
    /// A refusal is discarded if the key was corrected after the call began, because it may predate the correction.
    pub(super) fn insert(&self, key: &[u8], cost: u64, limits: &[Limit], refusal: &Decision, asked: RoundTrip) {
        let RoundTrip { sent, received, changes } = asked;
        let wait = refusal.retry_after().unwrap_or(NEVER_FITS);
        if wait.is_zero() {
            return;
        }
        let Some(until) = sent.checked_add(wait) else { return };
        if self.count.load(Ordering::Relaxed) >= self.most {
            self.sweep(received);
            if self.count.load(Ordering::Relaxed) >= self.most {
                return;
            }
        }
        let entry = Entry { until, received, cost, limits: Limit::digest(limits), refusal: *refusal };
        let print = self.secret.fingerprint(key);
        match self.entries.entry(print) {
            dashmap::Entry::Vacant(place) => {
                place.insert(vec![entry]);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            dashmap::Entry::Occupied(mut entries) => {
                let entries = entries.get_mut();
                entries.retain(|old| received < old.until && (old.cost, old.limits) != (entry.cost, entry.limits));
                if entries.len() >= COSTS {
                    entries.remove(0);
                }
                entries.push(entry);
            }
        }
        // This check comes last: a correction either sees the entry, or is seen here.
        if self.counter(print).load(Ordering::Acquire) != changes {
            self.remove(print, |_| true);
        }
    }

    /// Ends the entry of a corrected key.
    pub(super) fn forget(&self, key: &[u8]) {
        let print = self.secret.fingerprint(key);
        self.counter(print).fetch_add(1, Ordering::AcqRel);
        self.remove(print, |_| true);
    }

    fn remove(&self, print: Fingerprint, if_so: impl Fn(&[Entry]) -> bool) {
        if self.entries.remove_if(&print, |_, entries| if_so(entries)).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends an entry after a charge, which lengthens the wait of a larger cost.
    pub(super) fn outdate(&self, key: &[u8]) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.remove(self.secret.fingerprint(key), |_| true);
        }
    }

    /// Ends all entries.
    pub(super) fn clear(&self) {
        for counter in &self.changes {
            counter.fetch_add(1, Ordering::AcqRel);
        }
        self.retain(|_| false);
    }

    /// Removes expired entries. A flood on more keys than the cache can hold must not pay for this on each refusal.
    fn sweep(&self, now: Instant) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|last| now.saturating_duration_since(last) < SWEEP_EVERY) {
            return;
        }
        *swept = Some(now);
        drop(swept);
        self.retain(|entry| now < entry.until);
    }

    fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entries| {
            let stays = entries.iter().any(&keep);
            if !stays {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(capacity: u64) -> [Limit; 1] {
        [Limit { capacity, hard: capacity, window: 100, span: 100, ticks_in_200ms: 20 }]
    }

    fn asked(sent: Instant, received: Instant) -> RoundTrip {
        RoundTrip { sent, received, changes: 0 }
    }

    fn refusal(ms: u64) -> Decision {
        Decision::rejected(10, 10, Some(Duration::from_millis(ms)))
    }

    #[test]
    fn a_refusal_holds_for_its_cost_and_limits_until_it_ends() {
        let denied = DenyCache::new(10);
        let now = Instant::now();
        denied.insert(b"k", 3, &limits(10), &refusal(60_000), asked(now, now + Duration::from_millis(4)));
        let held = denied.get(b"k", 3, &limits(10)).unwrap();
        assert!((59_000..=60_004).contains(&held.retry_after_ms), "{held:?}");
        assert!(!held.is_allowed() && held.charge.units() == 0);
        for (key, cost, limit) in [(b"k", 2, 10), (b"k", 4, 10), (b"k", 3, 11), (b"j", 3, 10)] {
            assert!(denied.get(key, cost, &limits(limit)).is_none(), "{cost} of {limit}");
        }
        denied.forget(b"k");
        assert!(denied.get(b"k", 3, &limits(10)).is_none());
    }

    /// Otherwise a service with traffic on many keys would rarely remember a refusal.
    #[test]
    fn an_admission_ends_the_entry_of_its_key_and_no_others() {
        let denied = DenyCache::new(10);
        let (now, changes) = (Instant::now(), denied.changes(b"k"));
        denied.insert(b"k", 3, &limits(10), &refusal(60_000), RoundTrip { sent: now, received: now, changes });
        denied.outdate(b"k");
        assert!(denied.get(b"k", 3, &limits(10)).is_none());
        denied.outdate(b"j");
        denied.insert(b"k", 3, &limits(10), &refusal(60_000), RoundTrip { sent: now, received: now, changes });
        assert!(denied.get(b"k", 3, &limits(10)).is_some());
    }

    /// A reset overtakes the reply to an earlier request.
    #[test]
    fn a_refusal_from_before_a_change_is_not_kept() {
        let denied = DenyCache::new(10);
        let (now, changes) = (Instant::now(), denied.changes(b"k"));
        denied.forget(b"k");
        denied.insert(b"k", 1, &limits(10), &refusal(60_000), RoundTrip { sent: now, received: now, changes });
        assert!(denied.get(b"k", 1, &limits(10)).is_none());
        assert_eq!(denied.count.load(Ordering::Relaxed), 0);
    }

    /// A service that steadily refunds some keys must remember the refusals of others.
    #[test]
    fn a_change_of_other_keys_discards_no_refusal() {
        let denied = DenyCache::new(1_000);
        let now = Instant::now();
        let kept = (0..500_u32).filter(|number| {
            let key = number.to_le_bytes();
            let changes = denied.changes(&key);
            denied.forget(b"refunded");
            denied.insert(&key, 1, &limits(10), &refusal(60_000), RoundTrip { sent: now, received: now, changes });
            denied.get(&key, 1, &limits(10)).is_some()
        });
        assert!(kept.count() > 450);
        let changes = denied.changes(b"k");
        denied.clear();
        denied.insert(b"k", 1, &limits(10), &refusal(60_000), RoundTrip { sent: now, received: now, changes });
        assert!(denied.get(b"k", 1, &limits(10)).is_none(), "all keys were changed");
    }

    /// The time counts from before the request was sent, so the entry ends no later than on the server.
    #[test]
    fn it_ends_at_the_earliest_instant_at_which_the_request_may_fit() {
        let denied = DenyCache::new(10);
        let sent = Instant::now().checked_sub(Duration::from_millis(50)).unwrap();
        denied.insert(b"k", 1, &limits(10), &refusal(50), asked(sent, Instant::now()));
        assert!(denied.get(b"k", 1, &limits(10)).is_none());
        assert_eq!(denied.count.load(Ordering::Relaxed), 0, "the entry is gone");
    }

    #[test]
    fn a_refusal_that_no_wait_ends_is_kept_for_a_second() {
        let denied = DenyCache::new(10);
        let now = Instant::now();
        let never = Decision::rejected(10, 10, None);
        denied.insert(b"k", 11, &limits(10), &never, asked(now, now));
        assert_eq!(denied.get(b"k", 11, &limits(10)).unwrap().retry_after(), None);
        let before = now.checked_sub(Duration::from_secs(1)).unwrap();
        denied.insert(b"j", 11, &limits(10), &never, asked(before, before));
        assert!(denied.get(b"j", 11, &limits(10)).is_none());
    }

    /// If one cost replaced the other, alternating requests would call Redis each time.
    #[test]
    fn costs_that_alternate_are_kept_side_by_side_up_to_a_bound() {
        let denied = DenyCache::new(10);
        let now = Instant::now();
        for cost in 1..=20 {
            denied.insert(b"k", cost, &limits(10), &refusal(60_000), asked(now, now));
            denied.insert(b"k", cost, &limits(10), &refusal(60_000), asked(now, now));
        }
        let kept = (1..=20).filter(|&cost| denied.get(b"k", cost, &limits(10)).is_some()).count();
        assert_eq!((kept, denied.count.load(Ordering::Relaxed)), (8, 1));
        denied.outdate(b"k");
        assert!((1..=20).all(|cost| denied.get(b"k", cost, &limits(10)).is_none()));
    }

    #[test]
    fn it_is_bounded_and_reuses_expired_entries() {
        let denied = DenyCache::new(100);
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(10)).unwrap();
        for n in 0..100_u32 {
            denied.insert(&n.to_le_bytes(), 1, &limits(10), &refusal(1_000), asked(long_ago, now));
        }
        assert_eq!(denied.entries.len(), 100);
        for n in 100..300_u32 {
            denied.insert(&n.to_le_bytes(), 1, &limits(10), &refusal(60_000), asked(now, now));
        }
        assert_eq!((denied.entries.len(), denied.count.load(Ordering::Relaxed)), (100, 100));
        assert!(denied.get(&100_u32.to_le_bytes(), 1, &limits(10)).is_some());
        denied.clear();
        assert_eq!((denied.entries.len(), denied.count.load(Ordering::Relaxed)), (0, 0));
    }

    /// A sweep on each refusal would visit a hundred thousand entries, in a flood on that many keys.
    #[test]
    fn a_full_cache_is_swept_once_a_second_at_most() {
        let denied = DenyCache::new(1);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let holds = |key: &[u8]| denied.get(key, 1, &limits(10)).is_some();
        denied.insert(b"first", 1, &limits(10), &refusal(100), asked(start, start));
        let insert = |key: &[u8], at| denied.insert(key, 1, &limits(10), &refusal(600_000), asked(at, at));
        insert(b"full", after(0));
        insert(b"too soon", after(999));
        assert!(!holds(b"full") && !holds(b"too soon"));
        insert(b"second", after(1_000));
        assert!(holds(b"second"));
    }
}

//! The work of the sync task, and when it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::table::KeyRef;
use crate::lease::OwnedLimitSet;
use crate::script::LeaseId;

/// The delay after which the task resends reports that no request carries to Redis.
const RETRY_MS: u64 = 200;
/// The work of the sync task, and its condition.
pub(super) struct SyncSchedule {
    due: Mutex<BinaryHeap<Reverse<Scheduled>>>,
    pub(super) wake: Notify,
    /// The number of the running task; 0 if none runs.
    pub(super) running: AtomicU64,
    pub(super) started: AtomicU64,
    pub(super) is_asleep: AtomicBool,
    /// Until when the running task counts as alive, by the clock of the store, unless it sleeps.
    pub(super) alive_until: AtomicU64,
    /// The recent duration of a sync of some keys, in milliseconds.
    pub(super) latency_ms: AtomicU64,
}

/// An entry of the schedule: a key, and when its lease or its reports are due.
pub(super) struct Scheduled {
    pub(super) at: u64,
    pub(super) lease: Option<LeaseId>,
    pub(super) key: KeyRef,
    pub(super) limits: OwnedLimitSet,
}

impl SyncSchedule {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            due: Mutex::default(),
            wake: Notify::new(),
            running: AtomicU64::new(0),
            started: AtomicU64::new(0),
            is_asleep: AtomicBool::new(false),
            alive_until: AtomicU64::new(0),
            latency_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The current sync interval: the configured one, or twice the duration of a sync if Redis is slow.
    pub(super) fn interval_ms(&self, configured: u64) -> u32 {
        u32::try_from(configured.max(2 * self.latency_ms.load(Ordering::Relaxed))).unwrap_or(u32::MAX)
    }

    /// Adds a new lease, and reserves space for the entry that renews it early. So the decision that makes the lease
    /// run low allocates nothing.
    pub(super) fn add_given(&self, at: u64, lease: LeaseId, key: &KeyRef, limits: &OwnedLimitSet) {
        let mut heap = self.due();
        let room = heap.len() + 2;
        heap.reserve(room);
        drop(heap);
        self.add(at, Some(lease), key, limits);
    }

    /// Adds an entry for an instant: a lease to process, or reports to send if `lease` is `None`.
    pub(super) fn add(&self, at: u64, lease: Option<LeaseId>, key: &KeyRef, limits: &OwnedLimitSet) {
        let scheduled = Scheduled { at, lease, key: key.clone(), limits: limits.clone() };
        let is_next = {
            let mut heap = self.due();
            let is_next = heap.peek().is_none_or(|Reverse(next)| at < next.at);
            heap.push(Reverse(scheduled));
            is_next
        };
        if is_next {
            self.wake();
        }
    }

    /// Adds reports to send after a delay.
    pub(super) fn retry(&self, now: u64, key: &KeyRef, limits: &OwnedLimitSet) {
        self.add(now + RETRY_MS, None, key, limits);
    }

    /// Returns when the next entry is due.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.due().peek().map(|Reverse(next)| next.at)
    }

    fn due(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Scheduled>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the due entries, at most `most`.
    pub(super) fn take(&self, now: u64, most: usize) -> Vec<Scheduled> {
        let mut heap = self.due();
        let mut taken = Vec::new();
        while taken.len() < most && heap.peek().is_some_and(|Reverse(next)| next.at <= now) {
            taken.extend(heap.pop().map(|Reverse(scheduled)| scheduled));
        }
        taken
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

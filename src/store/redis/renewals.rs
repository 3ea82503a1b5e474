use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::time::millis;

/// How long the task may stay without activity before another one replaces it.
const GRACE_MS: u64 = 2_000;

/// Which task renews, and until when it is alive.
pub(super) struct Renewals {
    origin: Instant,
    /// The number of the task; 0 for none.
    running: AtomicU64,
    started: AtomicU64,
    alive_until: AtomicU64,
}

impl Default for Renewals {
    fn default() -> Self {
        let [running, started, alive_until] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { origin: Instant::now(), running, started, alive_until }
    }
}

impl Renewals {
    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }

    pub(super) fn stay_alive(&self, pause: Duration) {
        self.alive_until.store(self.now() + millis(pause) + GRACE_MS, Ordering::SeqCst);
    }

    /// Whether the task with this number has not been replaced.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.running.load(Ordering::SeqCst) == number
    }

    /// Ends the task with this number. Returns whether no other one has replaced it.
    pub(super) fn end(&self, number: u64) -> bool {
        self.running.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The number of a new task, unless one is alive.
    pub(super) fn begin(&self) -> Option<u64> {
        let running = self.running.load(Ordering::SeqCst);
        if running != 0 && self.now() < self.alive_until.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        self.running.compare_exchange(running, number, Ordering::SeqCst, Ordering::SeqCst).ok()?;
        self.stay_alive(Duration::ZERO);
        Some(number)
    }
}

//! The sync task: it renews leases in use, and returns units that no request spends.
//!
//! Each limiter has one task, on the runtime of the call that needed it first. The task holds the store weakly, ends
//! with it, and sleeps while no work is due. If its runtime ends or stalls, the next call that needs the task starts
//! another.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};

use super::schedule::{Scheduled, SyncSchedule};
use super::state::Shared;
use super::sync::SyncOp;
use super::table::KeyRef;
use crate::keyspace::fingerprint::Fingerprint;
use crate::lease::{KeyState, TimerAction};
use crate::runtime;
use crate::time::millis;

/// The time for which one batch of keys occupies Redis, approximately; Redis serves no other client meanwhile.
const AT_ONCE_MS: u64 = 1;
const MOST_AT_ONCE: usize = 64;
const LEAST_AT_ONCE: usize = 16;
/// How often the task searches for idle keys, and in how many rounds it visits all keys.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
const ROUNDS_PER_PASS: usize = 16;
/// How long the task may stay without activity before another one replaces it.
const GRACE_MS: u64 = 1_000;

/// Starts the sync task if it is not running.
pub(super) fn start(shared: &Arc<Shared>) {
    let (schedule, now) = (&shared.schedule, shared.time.now_ms());
    let running = schedule.running.load(Ordering::SeqCst);
    let is_asleep = schedule.is_asleep.load(Ordering::SeqCst);
    if running != 0 && is_asleep && schedule.is_asleep.swap(false, Ordering::SeqCst) {
        schedule.alive_until.store(now + GRACE_MS, Ordering::SeqCst);
        return schedule.wake();
    }
    if running != 0 && (is_asleep || now < schedule.alive_until.load(Ordering::SeqCst)) {
        return;
    }
    let number = schedule.started.fetch_add(1, Ordering::Relaxed) + 1;
    if schedule.running.compare_exchange(running, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return;
    }
    schedule.alive_until.store(now + GRACE_MS, Ordering::SeqCst);
    let (task, weak) = (TaskGuard(Arc::clone(schedule), number), Arc::downgrade(shared));
    let _ = runtime::spawn(async move { task.run(weak).await });
}

/// The number of keys in one batch.
struct BatchSize {
    keys: usize,
    /// The shortest recent round trip, in milliseconds.
    least_ms: u64,
}

impl BatchSize {
    /// Reduces the batch if Redis takes longer for it than it should, because Redis serves no other client meanwhile.
    fn adapt(&mut self, took_ms: u64) {
        self.least_ms = took_ms.min(self.least_ms + 1);
        self.keys = match took_ms > self.least_ms + AT_ONCE_MS {
            true => (self.keys / 2).max(LEAST_AT_ONCE),
            false => (self.keys + LEAST_AT_ONCE).min(MOST_AT_ONCE),
        };
    }
}

/// Marks the task with this number as running. Its drop lets the next task start, however the task ended.
struct TaskGuard(Arc<SyncSchedule>, u64);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let Self(schedule, number) = self;
        let _ = schedule.running.compare_exchange(*number, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl TaskGuard {
    fn is_current(&self) -> bool {
        self.0.running.load(Ordering::SeqCst) == self.1
    }

    async fn run(self, weak: Weak<Shared>) {
        let (mut batch, mut swept) = (BatchSize { keys: MOST_AT_ONCE, least_ms: 0 }, Instant::now());
        loop {
            let Some(shared) = weak.upgrade() else { return };
            shared.sync_due(&mut batch, &self).await;
            if !self.is_current() {
                return;
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                shared.sweep();
            }
            // This is set before the task checks for work, so that a caller that adds work in the meantime wakes it.
            self.0.is_asleep.store(true, Ordering::SeqCst);
            let pause = shared.next_wakeup();
            let now = shared.time.now_ms();
            drop(shared);
            let Some(pause) = pause else {
                self.0.wake.notified().await;
                continue;
            };
            self.0.alive_until.store(now + millis(pause) + GRACE_MS, Ordering::SeqCst);
            self.0.is_asleep.store(false, Ordering::SeqCst);
            let Ok(sleep) = runtime::sleep(pause) else { return };
            let (sleep, woken) = (std::pin::pin!(sleep), std::pin::pin!(self.0.wake.notified()));
            select(sleep, woken).await;
        }
    }
}

impl Shared {
    /// Syncs the due keys, some at a time, but stops when the next search for idle keys is due.
    async fn sync_due(self: &Arc<Self>, batch: &mut BatchSize, task: &TaskGuard) {
        let start = Instant::now();
        while start.elapsed() < SWEEP_EVERY && task.is_current() {
            let now = self.time.now_ms();
            self.schedule.alive_until.store(now + self.params.deadline_ms + GRACE_MS, Ordering::SeqCst);
            let due = self.schedule.take(now, batch.keys);
            let Some(late) = due.iter().map(|scheduled| now.saturating_sub(scheduled.at)).min() else { return };
            let syncs: Vec<SyncOp> = due.into_iter().filter_map(|scheduled| self.process_due(scheduled)).collect();
            if syncs.is_empty() {
                continue;
            }
            let began = Instant::now();
            join_all(syncs.into_iter().map(SyncOp::run)).await;
            let took = millis(began.elapsed());
            let before = self.schedule.latency_ms.load(Ordering::Relaxed);
            let lags = took.max(late).min(10_000);
            self.schedule.latency_ms.store((3 * before + lags) / 4, Ordering::Relaxed);
            batch.adapt(took);
        }
    }

    /// Starts the sync of a key whose lease or reports are due.
    fn process_due(self: &Arc<Self>, Scheduled { lease, key, limits, .. }: Scheduled) -> Option<SyncOp> {
        let now = self.time.now_ms();
        let visit = |state: &mut KeyState| {
            let is_closed = self.is_closed.load(Ordering::SeqCst) && state.can_return();
            let action = match lease {
                Some(_) if is_closed => TimerAction::Sync { wants: false },
                Some(id) => state.handle_timeout(now, id, &self.params),
                None => state.handle_retry(),
            };
            let TimerAction::Sync { wants } = action else { return (action, None, false) };
            if self.redis.dispatcher.allows(Some(&state.name)) {
                return (action, Some(SyncOp::start(self, &key, state, &limits, wants)), false);
            }
            state.expire(now, self.context(&key.table));
            (action, None, state.needs_retry())
        };
        let (action, sync, needs_retry) = key.with(visit)?;
        if let TimerAction::Later(at) = action {
            self.schedule.add(at, lease, &key, &limits);
        }
        if needs_retry {
            self.schedule.retry(now, &key, &limits);
        }
        sync
    }

    /// Forgets some of the idle keys.
    fn sweep(&self) {
        let now = self.time.now_ms();
        for table in self.tables() {
            for _ in 0..table.steps().div_ceil(ROUNDS_PER_PASS) {
                table.sweep_step(now, &self.params);
            }
        }
        self.named.tidy();
    }

    /// Returns the time until the next entry is due, or `None` if no entry exists.
    fn next_wakeup(&self) -> Option<Duration> {
        let next = self.schedule.next_at();
        // Work that becomes due in the meantime joins the same batch.
        let least = (self.params.interval_ms / 16).clamp(1, 5);
        match next {
            Some(at) => {
                let wait = at.saturating_sub(self.time.now_ms()).max(least);
                Some(Duration::from_millis(wait).min(SWEEP_EVERY))
            }
            None => self.tables().iter().any(|table| table.len() > 0).then_some(SWEEP_EVERY),
        }
    }
}

/// Returns the held units of all keys.
pub(super) async fn give_back(shared: &Arc<Shared>) {
    let limits = shared.any_limits();
    for table in shared.tables() {
        for some in table.keys_to_return().chunks(MOST_AT_ONCE) {
            let start = |print: &Fingerprint| {
                let key = KeyRef { table: Arc::clone(&table), print: *print };
                let visit = |state: &mut KeyState| {
                    state.can_return().then(|| SyncOp::start(shared, &key, state, &limits, false))
                };
                key.with(visit)?
            };
            let syncs: Vec<SyncOp> = some.iter().filter_map(start).collect();
            join_all(syncs.into_iter().map(SyncOp::run)).await;
        }
    }
}

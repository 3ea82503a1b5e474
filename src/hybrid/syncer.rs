//! The syncing task: renews leases that are in use, and gives back what nobody spends.
//!
//! One for each limiter, on the runtime of the call that needed it first. It holds the store weakly, ends with
//! it, and sleeps while there is nothing to do; where its runtime ends, the next call that needs it starts it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};
use tokio::sync::Notify;

use super::purse::{Due, Purse};
use super::settling::{OwnRules, Settling};
use super::table::Purses;
use super::{Shared, runtime};
use crate::fingerprint::Fingerprint;

/// Keys that are settled at once: as many as Redis takes about this long for, since it serves nobody else meanwhile.
const AT_ONCE_MS: u64 = 1;
const MOST_AT_ONCE: usize = 64;
const LEAST_AT_ONCE: usize = 16;
/// How often idle keys are looked for, and in how many rounds all are visited.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
const ROUNDS_PER_PASS: usize = 16;

/// What the task has to do, and how it fares.
pub(super) struct Syncer {
    due: Mutex<BinaryHeap<Reverse<Outstanding>>>,
    wake: Notify,
    is_running: AtomicBool,
    is_asleep: AtomicBool,
    /// How long settling some keys took of late, in milliseconds.
    latency_ms: AtomicU64,
}

/// A lease that is to be looked at.
struct Outstanding {
    at: u64,
    counter: u32,
    purses: Arc<Purses>,
    print: Fingerprint,
    rules: OwnRules,
}

impl Syncer {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            due: Mutex::default(),
            wake: Notify::new(),
            is_running: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            latency_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// How often keys are settled now: as configured, but where Redis is slow twice as long as that takes.
    pub(super) fn interval_ms(&self, configured: u64) -> u32 {
        u32::try_from(configured.max(2 * self.latency_ms.load(Ordering::Relaxed))).unwrap_or(u32::MAX)
    }

    /// Adds a lease, to be looked at at an instant.
    pub(super) fn expect(&self, at: u64, counter: u32, purses: &Arc<Purses>, print: Fingerprint, rules: &OwnRules) {
        let lent = Outstanding { at, counter, purses: Arc::clone(purses), print, rules: rules.clone() };
        let is_next = {
            let mut heap = self.due();
            let is_next = heap.peek().is_none_or(|Reverse(next)| at < next.at);
            heap.push(Reverse(lent));
            is_next
        };
        if is_next {
            self.wake();
        }
    }

    fn due(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Outstanding>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is due, at most so much.
    fn take(&self, now: u64, most: usize) -> Vec<Outstanding> {
        let mut heap = self.due();
        let mut taken = Vec::new();
        while taken.len() < most && heap.peek().is_some_and(|Reverse(next)| next.at <= now) {
            taken.extend(heap.pop().map(|Reverse(lent)| lent));
        }
        taken
    }
}

impl PartialEq for Outstanding {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Outstanding {}

impl PartialOrd for Outstanding {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Outstanding {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// Sees to it that the task runs.
pub(super) fn start(shared: &Arc<Shared>) {
    let syncer = &shared.syncer;
    if syncer.is_running.load(Ordering::Relaxed) || syncer.is_running.swap(true, Ordering::SeqCst) {
        if syncer.is_asleep.load(Ordering::Relaxed) && syncer.is_asleep.swap(false, Ordering::SeqCst) {
            syncer.wake();
        }
        return;
    }
    let (running, weak) = (Running(Arc::clone(syncer)), Arc::downgrade(shared));
    let _ = runtime::spawn(async move { running.run(weak).await });
}

/// How many keys are settled at once.
struct Pace {
    at_once: usize,
    /// What a round trip takes of late at least, in milliseconds.
    least_ms: u64,
}

impl Pace {
    /// Fewer, where Redis takes longer for them than it should; it serves nobody else meanwhile.
    fn adapt(&mut self, took_ms: u64) {
        self.least_ms = took_ms.min(self.least_ms + 1);
        self.at_once = match took_ms > self.least_ms + AT_ONCE_MS {
            true => (self.at_once / 2).max(LEAST_AT_ONCE),
            false => (self.at_once + LEAST_AT_ONCE).min(MOST_AT_ONCE),
        };
    }
}

/// The task, for as long as it is there; however it ends, the next may start.
struct Running(Arc<Syncer>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
        self.0.is_running.store(false, Ordering::SeqCst);
    }
}

impl Running {
    async fn run(self, weak: Weak<Shared>) {
        let (mut pace, mut swept) = (Pace { at_once: MOST_AT_ONCE, least_ms: 0 }, Instant::now());
        loop {
            let Some(shared) = weak.upgrade() else { return };
            shared.settle_due(&mut pace).await;
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                shared.sweep();
            }
            // Said before looking, so that whoever brings something to do meanwhile wakes it.
            self.0.is_asleep.store(true, Ordering::SeqCst);
            let pause = shared.pause();
            drop(shared);
            let Some(pause) = pause else {
                self.0.wake.notified().await;
                continue;
            };
            self.0.is_asleep.store(false, Ordering::SeqCst);
            let Ok(sleep) = runtime::sleep(pause) else { return };
            let (sleep, woken) = (std::pin::pin!(sleep), std::pin::pin!(self.0.wake.notified()));
            select(sleep, woken).await;
        }
    }
}

impl Shared {
    /// Settles what is due, some keys at a time, and for no longer than until idle keys are looked for again.
    async fn settle_due(self: &Arc<Self>, pace: &mut Pace) {
        let start = Instant::now();
        while start.elapsed() < SWEEP_EVERY {
            let now = self.time.now_ms();
            let due = self.syncer.take(now, pace.at_once);
            let Some(late) = due.iter().map(|lent| now.saturating_sub(lent.at)).min() else { return };
            let settlings: Vec<Settling> = due.into_iter().filter_map(|lent| self.look_at(lent)).collect();
            if settlings.is_empty() {
                continue;
            }
            let began = Instant::now();
            join_all(settlings.into_iter().map(Settling::run)).await;
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let before = self.syncer.latency_ms.load(Ordering::Relaxed);
            let lags = took.max(late).min(10_000);
            self.syncer.latency_ms.store((3 * before + lags) / 4, Ordering::Relaxed);
            pace.adapt(took);
        }
    }

    /// Begins to settle a key whose lease is in use, or has ended with units that nobody has spent.
    fn look_at(self: &Arc<Self>, lent: Outstanding) -> Option<Settling> {
        let Outstanding { counter, purses, print, rules, .. } = lent;
        let now = self.time.now_ms();
        let visit = |purse: &mut Purse| {
            let is_closed = self.is_closed.load(Ordering::SeqCst) && purse.can_return();
            let due = if is_closed { Due::Return } else { purse.due(now, counter, &self.terms) };
            let wants = due == Due::Renew;
            let settles = (wants || due == Due::Return) && self.redis.lanes.allows(|| purse.name.clone());
            (due, settles.then(|| self.begin(&purses, print, purse, &rules, wants)))
        };
        let (due, settling) = purses.with(print, visit)?;
        if let Due::Later(at) = due {
            self.syncer.expect(at, counter, &purses, print, &rules);
        }
        settling
    }

    /// Forgets some of the keys that are idle.
    fn sweep(&self) {
        let now = self.time.now_ms();
        for purses in self.tables() {
            for _ in 0..purses.steps().div_ceil(ROUNDS_PER_PASS) {
                purses.sweep_step(now, &self.terms);
            }
        }
        self.named.tidy();
    }

    /// How long nothing is due; nothing where there is nothing to wait for.
    fn pause(&self) -> Option<Duration> {
        let next = self.syncer.due().peek().map(|Reverse(next)| next.at);
        // What becomes due meanwhile goes together.
        let least = (self.terms.interval_ms / 16).clamp(1, 5);
        match next {
            Some(at) => {
                let wait = at.saturating_sub(self.time.now_ms()).max(least);
                Some(Duration::from_millis(wait).min(SWEEP_EVERY))
            }
            None => self.tables().iter().any(|purses| purses.len() > 0).then_some(SWEEP_EVERY),
        }
    }
}

/// Gives back what is held, of all keys.
pub(super) async fn give_back(shared: &Arc<Shared>) {
    let rules = shared.no_rules();
    for purses in shared.tables() {
        for some in purses.lenders().chunks(MOST_AT_ONCE) {
            let begin = |print: &Fingerprint| {
                let visit =
                    |purse: &mut Purse| purse.can_return().then(|| shared.begin(&purses, *print, purse, &rules, false));
                purses.with(*print, visit)?
            };
            let settlings: Vec<Settling> = some.iter().filter_map(begin).collect();
            join_all(settlings.into_iter().map(Settling::run)).await;
        }
    }
}

//! The cleanup loop: one thread in the process, which serves every store that asked for it.
//!
//! It holds stores weakly and ends when none is left. A store without it stays within its bound all the
//! same, since new keys pay for the sweep; the loop gives memory back when no new key comes.
//!
//! A child process that was forked has no such thread. The first steps of its sweep start one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{process, thread};

/// What the loop serves.
pub(crate) trait Sweep: Send + Sync {
    /// One round of the loop: a part of every map.
    fn sweep_round(&self);
}

/// From one round of the loop to the next.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds in which every map is visited once.
pub(crate) const ROUNDS_PER_PASS: usize = 16;

/// The stores that the loop serves.
static STORES: Mutex<Vec<Weak<dyn Sweep>>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();
/// The process in which the loop runs; 0 without one. It changes under the lock of the stores.
static RUNS_IN: AtomicU32 = AtomicU32::new(0);

fn stores() -> MutexGuard<'static, Vec<Weak<dyn Sweep>>> {
    STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a store to the loop, unless it is there, and starts the loop if it does not run.
pub(crate) fn start(store: &Weak<dyn Sweep>) {
    let mut stores = stores();
    if !stores.iter().any(|known| known.ptr_eq(store)) {
        stores.push(Weak::clone(store));
    }
    spawn(&stores);
}

/// Takes a store out of the loop.
pub(crate) fn stop(store: &Weak<dyn Sweep>) {
    stores().retain(|known| !known.ptr_eq(store));
    CHANGED.notify_all();
}

/// Starts the loop again if it runs in the process from which this one was forked.
pub(crate) fn follow_fork() {
    let runs_in = RUNS_IN.load(Ordering::Relaxed);
    if runs_in == 0 || runs_in == process::id() {
        return;
    }
    // The lock may have been held during the fork. Then nobody releases it here, so nobody must wait for it.
    if let Ok(stores) = STORES.try_lock() {
        spawn(&stores);
    }
}

/// Starts the loop if it does not run in this process; the caller holds the lock.
fn spawn(_stores: &MutexGuard<'static, Vec<Weak<dyn Sweep>>>) {
    let process = process::id();
    if RUNS_IN.load(Ordering::Relaxed) != process {
        // If no thread can be started, new keys go on paying for the sweep.
        let is_running = thread::Builder::new().name("tower-weir-sweep".into()).spawn(run).is_ok();
        RUNS_IN.store(if is_running { process } else { 0 }, Ordering::Relaxed);
    }
}

fn run() {
    loop {
        let served = {
            let mut stores = stores();
            stores.retain(|store| store.strong_count() > 0);
            if stores.is_empty() {
                RUNS_IN.store(0, Ordering::Relaxed);
                return;
            }
            stores.clone()
        };
        for store in &served {
            // A clock of the user's may panic; that must not end the cleanup of the other stores.
            let round = || store.upgrade().map(|store| store.sweep_round());
            if catch_unwind(AssertUnwindSafe(round)).is_err() {
                stop(store);
            }
        }
        drop(served);
        let wait = CHANGED.wait_timeout(stores(), ROUND);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes it look as if this process had been forked from another one, in which the loop runs.
#[cfg(test)]
pub(crate) fn pretend_to_be_forked() {
    let _stores = stores();
    RUNS_IN.store(process::id().wrapping_add(1), Ordering::Relaxed);
}

/// Whether the loop runs in this process, as far as this process knows.
#[cfg(test)]
pub(crate) fn runs_here() -> bool {
    RUNS_IN.load(Ordering::Relaxed) == process::id()
}

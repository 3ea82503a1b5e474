//! The cleanup loop: one thread per process, which serves every store that requested it.
//!
//! It holds stores weakly and ends with the last one. A store without the loop stays within its bound anyway, because
//! new keys pay for the sweep. The loop frees memory while no new key arrives.
//!
//! A forked child process has no such thread. The first steps of its sweep start one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{process, thread};

/// A store that the loop serves.
pub(crate) trait Sweep: Send + Sync {
    /// Sweeps a part of every map, for one round of the loop.
    fn sweep_round(&self);
}

/// The time between two rounds of the loop.
const ROUND: Duration = Duration::from_millis(500);
/// The rounds in which the loop visits every map once.
pub(crate) const ROUNDS_PER_PASS: usize = 16;

/// The stores that the loop serves.
static STORES: Mutex<Vec<Weak<dyn Sweep>>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();
/// The process in which the loop runs; 0 if it does not run. The lock of the stores guards it.
static RUNS_IN: AtomicU32 = AtomicU32::new(0);

fn stores() -> MutexGuard<'static, Vec<Weak<dyn Sweep>>> {
    STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a store to the loop, unless the loop has it, and starts the loop if it is not running.
pub(crate) fn start(store: &Weak<dyn Sweep>) {
    let mut stores = stores();
    if !stores.iter().any(|known| known.ptr_eq(store)) {
        stores.push(Weak::clone(store));
    }
    spawn(&stores);
}

/// Removes a store from the loop.
pub(crate) fn stop(store: &Weak<dyn Sweep>) {
    stores().retain(|known| !known.ptr_eq(store));
    CHANGED.notify_all();
}

/// Restarts the loop if it runs in the process from which this one was forked.
pub(crate) fn follow_fork() {
    let runs_in = RUNS_IN.load(Ordering::Relaxed);
    if runs_in == 0 || runs_in == process::id() {
        return;
    }
    // The lock may have been held during the fork. In the child, no thread would release it, so no caller may wait for
    // it.
    if let Ok(stores) = STORES.try_lock() {
        spawn(&stores);
    }
}

/// Starts the loop if it is not running in this process; the caller holds the lock.
fn spawn(_stores: &MutexGuard<'static, Vec<Weak<dyn Sweep>>>) {
    let process = process::id();
    if RUNS_IN.load(Ordering::Relaxed) != process {
        // If no thread can start, new keys continue to pay for the sweep.
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
            // The user's clock may panic; that must not end the cleanup of other stores.
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

/// Simulates that this process was forked from another one, in which the loop runs.
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

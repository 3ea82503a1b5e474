//! The cleanup loop: one thread in the process, which serves every store that asked for it.
//!
//! It holds stores weakly and ends when none is left. A store without it stays within its bound all the
//! same, since new keys pay for the sweep; the loop gives memory back when no new key comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::Shared;

/// From one round of the loop to the next.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds in which every map is visited once.
pub(super) const ROUNDS_PER_PASS: usize = 16;

struct Janitor {
    stores: Vec<Weak<Shared>>,
    is_running: bool,
}

static JANITOR: Mutex<Janitor> = Mutex::new(Janitor { stores: Vec::new(), is_running: false });
static CHANGED: Condvar = Condvar::new();

fn janitor() -> MutexGuard<'static, Janitor> {
    JANITOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a store to the loop, unless it is there, and starts the loop if it does not run.
pub(super) fn start(store: &Weak<Shared>) {
    let mut janitor = janitor();
    if !janitor.stores.iter().any(|known| known.ptr_eq(store)) {
        janitor.stores.push(Weak::clone(store));
    }
    if !janitor.is_running {
        // Where no thread can be had, new keys go on paying for the sweep.
        janitor.is_running = thread::Builder::new().name("tower-weir-sweep".into()).spawn(run).is_ok();
    }
}

/// Takes a store out of the loop.
pub(super) fn stop(store: &Weak<Shared>) {
    janitor().stores.retain(|known| !known.ptr_eq(store));
    CHANGED.notify_all();
}

fn run() {
    loop {
        let stores = {
            let mut janitor = janitor();
            janitor.stores.retain(|store| store.strong_count() > 0);
            if janitor.stores.is_empty() {
                janitor.is_running = false;
                return;
            }
            janitor.stores.clone()
        };
        for store in &stores {
            // A clock of the user's may panic; that must not end the cleanup of the other stores.
            let round = || store.upgrade().map(|store| store.sweep_round());
            if catch_unwind(AssertUnwindSafe(round)).is_err() {
                stop(store);
            }
        }
        drop(stores);
        let wait = CHANGED.wait_timeout(janitor(), ROUND);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

//! tokio, if one of its runtimes runs the caller.

use std::cell::Cell;
use std::future::Future;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Handle;

pub(super) type Timer = tokio::time::Sleep;

pub(super) fn is_here() -> bool {
    Handle::try_current().is_ok()
}

pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Result<(), F> {
    Carrier::here().spawn(future)
}

/// The caller's runtime, if it is a tokio runtime.
#[derive(Clone, Debug)]
pub(super) struct Carrier(Option<Handle>);

impl Carrier {
    pub(super) fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) -> Result<(), F> {
        match &self.0 {
            Some(handle) => {
                drop(handle.spawn(future));
                Ok(())
            }
            None => Err(future),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it was shut down. A runtime refuses new tasks before it drops its first task.
    pub(super) fn is_over(&self) -> bool {
        let task = self.0.as_ref().map(|handle| handle.spawn(std::future::ready(())));
        matches!(task.and_then(FutureExt::now_or_never), Some(Err(_)))
    }
}

/// Returns a timer, or `None` on a runtime that was built without timers.
pub(super) fn timer(duration: Duration) -> Option<Timer> {
    if WITHOUT_TIMERS.get().is_some_and(|found: Instant| found.elapsed() < LOOK_AGAIN) {
        return None;
    }
    // tokio has no query for it; it only panics.
    let timer = catch_unwind(|| tokio::time::sleep(duration)).ok();
    if timer.is_none() {
        WITHOUT_TIMERS.set(Some(Instant::now()));
    }
    timer
}

/// How long a thread's runtime counts as having no timers, to keep panics rare.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

thread_local! {
    /// When this thread's runtime last turned out to have no timers.
    static WITHOUT_TIMERS: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub(super) async fn give_way() {
    // The first yield polls the sockets; the second runs the tasks that they wake.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

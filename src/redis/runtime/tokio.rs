//! tokio, where a runtime of it runs the caller.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;

pub(super) type Timer = tokio::time::Sleep;

pub(super) fn is_here() -> bool {
    Handle::try_current().is_ok()
}

pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Result<(), F> {
    match Handle::try_current() {
        Ok(handle) => {
            drop(handle.spawn(future));
            Ok(())
        }
        Err(_) => Err(future),
    }
}

pub(super) fn timer(duration: Duration) -> Option<Timer> {
    is_here().then(|| tokio::time::sleep(duration))
}

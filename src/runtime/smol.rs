//! smol starts its threads itself, so it is always available.

use std::future::Future;
use std::time::Duration;

pub(super) type Timer = smol::Timer;

pub(super) fn is_here() -> bool {
    true
}

pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Result<(), F> {
    smol::spawn(future).detach();
    Ok(())
}

pub(super) fn timer(duration: Duration) -> Option<Timer> {
    Some(Timer::after(duration))
}

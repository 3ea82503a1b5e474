//! Replaces a runtime whose feature is off.

use std::convert::Infallible;
use std::future::{Future, Ready};
use std::time::Duration;

pub(super) type Timer = Ready<Infallible>;

pub(super) fn is_here() -> bool {
    false
}

pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Result<(), F> {
    Err(future)
}

/// Without tokio, no tokio runtime can shut down.
#[allow(dead_code, reason = "smol's threads are never shut down")]
#[derive(Clone, Debug)]
pub(super) struct Carrier;

#[allow(dead_code, reason = "smol's threads are never shut down")]
impl Carrier {
    pub(super) fn here() -> Self {
        Self
    }

    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) -> Result<(), F> {
        Err(future)
    }

    pub(super) fn is_known(&self) -> bool {
        false
    }

    pub(super) fn is_over(&self) -> bool {
        false
    }
}

pub(super) fn timer(_: Duration) -> Option<Timer> {
    None
}

#[allow(dead_code, reason = "smol's sockets have their own thread")]
pub(super) async fn give_way() {}

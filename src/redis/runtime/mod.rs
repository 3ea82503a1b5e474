//! Spawning and timers on the runtime that runs the caller: tokio if there is one, else smol.
//!
//! Both features may be on, so the runtime is found at each call. Nothing here panics outside a runtime.

#[cfg_attr(not(feature = "redis-smol"), path = "absent.rs")]
#[cfg_attr(feature = "redis-smol", path = "smol.rs")]
mod on_smol;
#[cfg_attr(not(feature = "redis-tokio"), path = "absent.rs")]
#[cfg_attr(feature = "redis-tokio", path = "tokio.rs")]
mod on_tokio;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

/// No runtime runs the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRuntime;

impl NoRuntime {
    pub(crate) const MESSAGE: &'static str = "Redis is asked outside a tokio runtime; call from within one \
        (tokio::main, Runtime::block_on), or add the feature redis-smol, which needs none";
}

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MESSAGE)
    }
}

impl Error for NoRuntime {}

/// The time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Whether there is a runtime.
pub(crate) fn check() -> Result<(), NoRuntime> {
    if on_tokio::is_here() || on_smol::is_here() { Ok(()) } else { Err(NoRuntime) }
}

/// Runs a future in the background.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<(), NoRuntime> {
    let Err(future) = on_tokio::spawn(future) else { return Ok(()) };
    on_smol::spawn(future).map_err(|_| NoRuntime)
}

/// Completes after `duration`, counted from this call.
pub(crate) fn sleep(duration: Duration) -> Result<Sleep, NoRuntime> {
    if let Some(timer) = on_tokio::timer(duration) {
        return Ok(Sleep::Tokio { timer });
    }
    on_smol::timer(duration).map(|timer| Sleep::Smol { timer }).ok_or(NoRuntime)
}

/// Gives a future `duration` from this call; a future that is ready at once sets no timer.
pub(crate) fn timeout<F: Future>(duration: Duration, future: F) -> Result<Timeout<F>, NoRuntime> {
    Ok(Timeout { future, sleep: sleep(duration)? })
}

pin_project! {
    /// See [`sleep`].
    #[project = SleepProjection]
    pub(crate) enum Sleep {
        Tokio { #[pin] timer: on_tokio::Timer },
        Smol { #[pin] timer: on_smol::Timer },
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project() {
            SleepProjection::Tokio { timer } => timer.poll(cx).map(drop),
            SleepProjection::Smol { timer } => timer.poll(cx).map(drop),
        }
    }
}

pin_project! {
    /// See [`timeout`].
    pub(crate) struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed))
    }
}

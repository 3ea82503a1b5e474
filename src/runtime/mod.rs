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
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

/// No runtime runs the caller, or none that has timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRuntime(&'static str);

impl NoRuntime {
    pub(crate) const ABSENT: Self = Self(
        "the call is outside a tokio runtime; call from within one (tokio::main, Runtime::block_on), or add the \
         feature redis-smol, which needs none",
    );
    pub(crate) const WITHOUT_TIMERS: Self = Self("the tokio runtime has no timers; build it with `enable_all()`");

    pub(crate) const fn message(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for NoRuntime {}

/// The time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Whether there is a runtime.
pub(crate) fn check() -> Result<(), NoRuntime> {
    if on_tokio::is_here() || on_smol::is_here() { Ok(()) } else { Err(NoRuntime::ABSENT) }
}

/// Runs a future in the background.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<(), NoRuntime> {
    let Err(future) = on_tokio::spawn(future) else { return Ok(()) };
    on_smol::spawn(future).map_err(|_| NoRuntime::ABSENT)
}

/// The runtime that runs a task.
#[derive(Clone, Debug)]
pub(crate) struct Carrier(on_tokio::Carrier);

impl Carrier {
    /// The caller's.
    pub(crate) fn here() -> Self {
        Self(on_tokio::Carrier::here())
    }

    /// Whether it was shut down, which drops its tasks without a word.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

/// Completes after `duration`, counted from this call.
pub(crate) fn sleep(duration: Duration) -> Result<Sleep, NoRuntime> {
    if on_tokio::is_here() {
        // Not smol's timers instead: redis would set tokio's, and those panic.
        return on_tokio::timer(duration).map(|timer| Sleep::Tokio { timer }).ok_or(NoRuntime::WITHOUT_TIMERS);
    }
    on_smol::timer(duration).map(|timer| Sleep::Smol { timer }).ok_or(NoRuntime::ABSENT)
}

/// Lets the other tasks of the runtime run, those among them whose socket has news.
pub(crate) async fn give_way() {
    if on_tokio::is_here() {
        on_tokio::give_way().await;
    }
}

/// How much more than its time a future gets on a runtime that did not run for a while: what it waits for may be
/// there, and its task still has to read it.
const GRACE: Duration = Duration::from_millis(5);
/// By how much a timer may be late on a runtime that runs.
const LATE: Duration = Duration::from_millis(2);

/// Gives a future `duration` from this call, by true time, of which paused time of tokio is none.
///
/// A runtime that stood still for longer gets 5 ms more: an answer that came meanwhile counts.
pub(crate) fn timeout<F: Future>(duration: Duration, future: F) -> Result<Timeout<F>, NoRuntime> {
    Ok(Timeout { future, sleep: sleep(duration)?, start: Instant::now(), duration, is_extended: false })
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
        start: Instant,
        duration: Duration,
        is_extended: bool,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(output) = this.future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if this.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let elapsed = this.start.elapsed();
            let more = if elapsed + LATE < *this.duration {
                // The time is paused: it jumped here because nothing else was ready.
                Duration::from_millis(1)
            } else if elapsed > *this.duration + LATE && !*this.is_extended {
                *this.is_extended = true;
                GRACE
            } else {
                return Poll::Ready(Err(Elapsed));
            };
            match sleep(more) {
                Ok(timer) => this.sleep.set(timer),
                Err(_) => return Poll::Ready(Err(Elapsed)),
            }
        }
    }
}

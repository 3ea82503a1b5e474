//! Tasks and timers on the caller's runtime: tokio if it runs the caller, otherwise smol.
//!
//! Both features may be enabled, so each call detects the runtime. No function here panics outside a runtime.

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

/// The caller is outside a runtime, or its runtime has no timers.
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

/// The time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Whether the caller is on a usable runtime.
pub(crate) fn check() -> Result<(), NoRuntime> {
    if on_tokio::is_here() || on_smol::is_here() { Ok(()) } else { Err(NoRuntime::ABSENT) }
}

/// Runs a future in the background.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<(), NoRuntime> {
    let Err(future) = on_tokio::spawn(future) else { return Ok(()) };
    on_smol::spawn(future).map_err(|_| NoRuntime::ABSENT)
}

/// The runtime of a task.
#[derive(Clone, Debug)]
pub(crate) struct Carrier(on_tokio::Carrier);

impl Carrier {
    /// The caller's runtime.
    pub(crate) fn here() -> Self {
        Self(on_tokio::Carrier::here())
    }

    /// Runs a future in the background on that runtime, also if the caller has left it.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), NoRuntime> {
        let Err(future) = self.0.spawn(future) else { return Ok(()) };
        on_smol::spawn(future).map_err(|_| NoRuntime::ABSENT)
    }

    /// Whether it is a tokio runtime that still runs its tasks.
    pub(crate) fn is_live(&self) -> bool {
        self.0.is_known() && !self.is_over()
    }

    /// Whether the runtime was shut down, which drops its tasks silently.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

/// Completes after `duration`, counted from this call.
pub(crate) fn sleep(duration: Duration) -> Result<Sleep, NoRuntime> {
    if on_tokio::is_here() {
        // smol's timers are no substitute: the redis crate would set tokio's timers, which panic.
        return on_tokio::timer(duration).map(|timer| Sleep::Tokio { timer }).ok_or(NoRuntime::WITHOUT_TIMERS);
    }
    on_smol::timer(duration).map(|timer| Sleep::Smol { timer }).ok_or(NoRuntime::ABSENT)
}

/// Lets the runtime run its other tasks, including those with socket events.
pub(crate) async fn give_way() {
    if on_tokio::is_here() {
        on_tokio::give_way().await;
    }
}

/// The extra time for a future on a runtime that stalled. Its reply may have arrived, but its task has not read it.
const GRACE: Duration = Duration::from_millis(5);
/// The delay of a timer that is normal on a running runtime.
const LATE: Duration = Duration::from_millis(2);

/// Limits a future to `duration` from this call, in real time; paused tokio time does not count.
///
/// On a runtime that stalled for longer, the future gets 5 ms more, so a reply that arrived in the meantime counts.
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
                // The time is paused. It advanced to this timer because no other task was ready.
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

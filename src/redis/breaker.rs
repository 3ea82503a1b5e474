//! The circuit breaker: after some failures in a row it stops all calls until a probe succeeds.
//!
//! One [`Breaker`] guards one partition (a range of slots on a cluster, otherwise all of Redis). Its state is one word:
//!
//! ```text
//!                   k-th failure in a row
//!   closed(n) ----------------------------------------> open
//!      ^  ^                                              |  |
//!      |  +---------- the probe succeeded ---------------+  | the probe's task is gone, or inactive
//!      |                                                    v
//!      +-------- a success -------- half open ---------------+   (a failure: open again)
//! ```
//!
//! *Half-open* exists because the probe's runtime may be shut down, or stall. Then the next caller is the probe, so no
//! breaker stays open forever.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::runtime;

const OPEN: u32 = u32::MAX;
const HALF_OPEN: u32 = u32::MAX - 1;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// The failures in a row, or [`OPEN`], or [`HALF_OPEN`].
    state: AtomicU32,
    threshold: u32,
    start: Instant,
    /// When the probe was last active, in milliseconds from the start.
    heard: AtomicU64,
    /// The time without activity after which the probe counts as abandoned.
    probe_timeout: Duration,
}

/// The breaker closed. Each transition returns one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transition is logged and counted"]
pub(crate) struct Closed;

impl Breaker {
    pub(crate) const DEFAULT_THRESHOLD: u32 = 5;

    /// The longest pause between two probes.
    pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// Creates a closed breaker that opens after `threshold` failures in a row, at least 1.
    ///
    /// A probe without activity for more than `probe_timeout` counts as abandoned.
    pub(crate) fn new(threshold: u32, probe_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU32::new(0),
            threshold: threshold.clamp(1, HALF_OPEN - 1),
            start: Instant::now(),
            heard: AtomicU64::new(0),
            probe_timeout,
        })
    }

    /// Whether callers may call Redis.
    #[inline]
    pub(crate) fn allows(&self) -> bool {
        self.state.load(Ordering::Relaxed) != OPEN || self.is_abandoned()
    }

    /// Whether the probe's runtime stalls; the caller then becomes the probe.
    fn is_abandoned(&self) -> bool {
        let silence = self.now().saturating_sub(self.heard.load(Ordering::Relaxed));
        u128::from(silence) > self.probe_timeout.as_millis()
            && self.state.compare_exchange(OPEN, HALF_OPEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn hear(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records a success. A late reply to a call from before the breaker opened does not close it.
    #[inline]
    pub(crate) fn on_success(&self) -> Option<Closed> {
        match self.state.load(Ordering::Relaxed) {
            0 | OPEN => None,
            seen => self.settle(seen),
        }
    }

    #[cold]
    fn settle(&self, seen: u32) -> Option<Closed> {
        // A lost race needs no retry: the winner has newer information.
        let won = self.state.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (won && seen == HALF_OPEN).then_some(Closed)
    }

    /// Records a failure. A caller that receives a [`ProbeTicket`] must run its probe.
    #[cold]
    pub(crate) fn on_failure(self: &Arc<Self>) -> Option<ProbeTicket> {
        // This precedes the state change, so that no thread takes the new probe for an abandoned one.
        if self.state.load(Ordering::Relaxed) != OPEN {
            self.hear();
        }
        let before = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| match state {
                OPEN => None,
                HALF_OPEN => Some(OPEN),
                failures if failures + 1 >= self.threshold => Some(OPEN),
                failures => Some(failures + 1),
            })
            .ok()?;
        let opened = before == HALF_OPEN || before + 1 >= self.threshold;
        opened.then(|| ProbeTicket {
            breaker: Arc::downgrade(self),
            is_transition: before != HALF_OPEN,
            is_done: false,
        })
    }
}

/// The duty to probe; each opening of the breaker creates one.
///
/// If it is dropped before its probe succeeds (no runtime, or a runtime that was shut down), it leaves the breaker half
/// open. The next caller is then the probe.
#[derive(Debug)]
#[must_use = "a breaker that opened needs its probe"]
pub(crate) struct ProbeTicket {
    breaker: Weak<Breaker>,
    is_transition: bool,
    is_done: bool,
}

impl ProbeTicket {
    /// Whether this is the logged transition, and not a return from half-open.
    pub(crate) fn is_transition(&self) -> bool {
        self.is_transition
    }

    /// Calls `probe` until it returns `true`, which closes the breaker.
    ///
    /// The pauses grow from 50 ms to 1 s, with downward jitter. They run from one start of a probe to the next, so a
    /// slow probe does not delay the recovery twice. Returns `None` if the breaker's owner is gone, or no runtime runs
    /// this.
    pub(crate) async fn probe<P, F>(mut self, mut probe: P) -> Option<Closed>
    where
        P: FnMut() -> F,
        F: Future<Output = bool>,
    {
        let mut rest = runtime::sleep(pause(0, fastrand::f64())).ok()?;
        for attempt in 1.. {
            rest.await;
            self.breaker.upgrade()?.hear();
            rest = runtime::sleep(pause(attempt, fastrand::f64())).ok()?;
            let is_back = probe().await;
            self.breaker.upgrade()?.hear();
            if is_back {
                return self.close();
            }
        }
        None
    }

    fn close(&mut self) -> Option<Closed> {
        let breaker = self.breaker.upgrade()?;
        self.is_done = true;
        // Another task may have closed it, after this probe counted as abandoned.
        breaker.state.compare_exchange(OPEN, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok().then_some(Closed)
    }
}

impl Drop for ProbeTicket {
    fn drop(&mut self) {
        if !self.is_done
            && let Some(breaker) = self.breaker.upgrade()
        {
            let _ = breaker.state.compare_exchange(OPEN, HALF_OPEN, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The pause before the next probe after `attempt` others; `jitter` is in 0..1.
fn pause(attempt: u32, jitter: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << attempt.min(8)).min(Breaker::LONGEST_PAUSE);
    full.mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests;

//! The breaker: after some failures in a row it lets nothing through until a probe has been answered.
//!
//! One [`Breaker`] guards one lane (a range of slots on a cluster, else all of Redis). Its state is one word:
//!
//! ```text
//!                   k-th failure in a row
//!   closed(n) ----------------------------------------> open
//!      ^  ^                                              |  |
//!      |  +---------- the probe was answered ------------+  | the probe's task is gone, or silent
//!      |                                                    v
//!      +-------- a success -------- half open ---------------+   (a failure: open again)
//! ```
//!
//! *Half-open* is there because the probe runs on a runtime that may be shut down, or stand still: then the next
//! caller is the probe, and nothing stays shut for ever.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::runtime;

const OPEN: u32 = u32::MAX;
const HALF_OPEN: u32 = u32::MAX - 1;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// The failures in a row, or [`OPEN`], or [`HALF_OPEN`].
    state: AtomicU32,
    threshold: u32,
    start: Instant,
    /// When the probe last gave a sign of life, in milliseconds from the start.
    heard: AtomicU64,
    /// How long it may be silent.
    probe_timeout: Duration,
}

/// The breaker went from open to closed; told once per transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transition is logged and counted"]
pub(crate) struct Closed;

impl Breaker {
    pub(crate) const DEFAULT_THRESHOLD: u32 = 5;

    /// The longest pause between two probes.
    pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// Creates a closed breaker that opens after `threshold` failures in a row, at least 1.
    ///
    /// A probe that is silent for more than `probe_timeout` is given up.
    pub(crate) fn new(threshold: u32, probe_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU32::new(0),
            threshold: threshold.clamp(1, HALF_OPEN - 1),
            start: Instant::now(),
            heard: AtomicU64::new(0),
            probe_timeout,
        })
    }

    /// Whether to ask Redis.
    #[inline]
    pub(crate) fn allows(&self) -> bool {
        self.state.load(Ordering::Relaxed) != OPEN || self.is_abandoned()
    }

    /// Whether the probe's runtime stands still; the caller is then the probe.
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

    /// Notes an answer. A late one, to a question from before the breaker opened, does not close it.
    #[inline]
    pub(crate) fn on_success(&self) -> Option<Closed> {
        match self.state.load(Ordering::Relaxed) {
            0 | OPEN => None,
            seen => self.settle(seen),
        }
    }

    #[cold]
    fn settle(&self, seen: u32) -> Option<Closed> {
        // A lost race needs no second try: whoever won it has newer news.
        let won = self.state.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (won && seen == HALF_OPEN).then_some(Closed)
    }

    /// Notes a failure. Whoever gets an [`ProbeTicket`] has to run its probe.
    #[cold]
    pub(crate) fn on_failure(self: &Arc<Self>) -> Option<ProbeTicket> {
        // Before the state, so that nobody takes the new probe for one that is silent.
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

/// The duty to probe: there is one for each time that the breaker opens.
///
/// Dropped before its probe was answered (no runtime, or one that is shut down), it leaves the breaker
/// half open, so that the next callers are the probe.
#[derive(Debug)]
#[must_use = "a breaker that opened needs its probe"]
pub(crate) struct ProbeTicket {
    breaker: Weak<Breaker>,
    is_transition: bool,
    is_done: bool,
}

impl ProbeTicket {
    /// Whether this is the transition that is logged, and not a return from doubt.
    pub(crate) fn is_transition(&self) -> bool {
        self.is_transition
    }

    /// Asks `probe` again and again until it answers `true`, which closes the breaker.
    ///
    /// The pauses grow from 50 ms to 1 s, with jitter downwards, and are counted from one start of the probe
    /// to the next, so that a probe that takes its time does not delay the recovery twice. `None` means that
    /// the breaker's owner is gone, or that no runtime runs this.
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
        // Unless somebody else has found out, after this was silent for too long.
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

/// The pause before the probe after `attempt` others; `jitter` is in 0..1.
fn pause(attempt: u32, jitter: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << attempt.min(8)).min(Breaker::LONGEST_PAUSE);
    full.mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests;

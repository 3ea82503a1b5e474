//! Adds the decisions of one limit to the current span, and writes events about refusals, at most one per second.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use super::decision_event::Seen;
use super::decision_names::{DECISION, MODE, REASON};
use crate::time::millis;

/// The target of the events.
const TARGET: &str = "tower_weir::limit";
/// The least time between two events about the same limit, reason and mode.
const PAUSE_MS: u64 = 1_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct LimitTrace(Arc<Refusals>);

#[derive(Debug)]
struct Refusals {
    policy: Option<Arc<str>>,
    /// Allocated by the first refusal.
    throttles: OnceLock<Box<[Throttle; Seen::SLOTS]>>,
    cuts: Throttle,
}

impl LimitTrace {
    pub(super) const IS_ON: bool = true;

    pub(super) fn new(policy: Option<&Arc<str>>) -> Self {
        Self(Arc::new(Refusals { policy: policy.cloned(), throttles: OnceLock::new(), cuts: Throttle::default() }))
    }

    fn policy(&self) -> &str {
        self.0.policy.as_deref().unwrap_or_default()
    }

    /// Writes an event about a new mode.
    pub(super) fn mode_changed(&self, mode: &dyn fmt::Display) {
        tracing::info!(target: TARGET, { rate_limit.policy = self.policy(), %mode }, "the mode of a limit changed");
    }

    /// Writes an event about a refusal, unless the last one is too recent.
    #[inline]
    pub(super) fn see(&self, seen: Seen) {
        if !seen.admits && LevelFilter::current() >= LevelFilter::INFO {
            self.refuse(seen);
        }
    }

    #[cold]
    fn refuse(&self, seen: Seen) {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        let throttles = self.0.throttles.get_or_init(|| Box::new(std::array::from_fn(|_| Throttle::default())));
        let Some(refusals) = throttles[seen.slot()].due(millis(START.elapsed())) else { return };
        tracing::info!(
            target: TARGET,
            {
                rate_limit.policy = self.policy(),
                rate_limit.decision = seen.outcome().name(),
                rate_limit.reason = seen.reason.name(),
                rate_limit.mode = seen.mode(),
                refusals,
            },
            "a limit refuses requests; `refusals` counts those since the last event"
        );
    }

    /// Writes an event about a response that the limit ended, unless the last one is too recent.
    pub(super) fn response_cut(&self) {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        let Some(responses) = self.0.cuts.due(millis(START.elapsed())) else { return };
        tracing::info!(
            target: TARGET,
            { rate_limit.policy = self.policy(), responses },
            "a limit ends metered responses; `responses` counts those since the last event"
        );
    }

    /// Adds the decision to the current span, if the span has fields for it.
    #[inline]
    pub(super) fn record(&self, seen: Seen) {
        if LevelFilter::current() != LevelFilter::OFF {
            self.record_on(&Span::current(), seen);
        }
    }

    fn record_on(&self, span: &Span, seen: Seen) {
        if span.has_field(DECISION) {
            span.record("rate_limit.policy", self.policy());
            span.record(DECISION, seen.outcome().name());
            span.record(REASON, seen.reason.name());
            span.record(MODE, seen.mode());
        }
    }
}

/// Lets one event pass in [`PAUSE_MS`], and counts.
#[derive(Debug, Default)]
struct Throttle {
    next_ms: AtomicU64,
    count: AtomicU64,
}

impl Throttle {
    /// Counts a refusal. Returns the refusals since the last event if another one is due.
    fn due(&self, now_ms: u64) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let next = self.next_ms.load(Ordering::Relaxed);
        let is_due = now_ms >= next
            && self.next_ms.compare_exchange(next, now_ms + PAUSE_MS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_due.then(|| self.count.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_per_second_and_counts_the_refusals_before_it() {
        let throttle = Throttle::default();
        assert_eq!(throttle.due(0), Some(1));
        assert!((0..PAUSE_MS).all(|now| throttle.due(now).is_none()));
        assert_eq!(throttle.due(PAUSE_MS), Some(PAUSE_MS + 1));
        assert_eq!(throttle.due(2 * PAUSE_MS - 1), None);
        assert_eq!(throttle.due(10 * PAUSE_MS), Some(2));
    }
}

//! Counts the decisions of one limit through the `metrics` facade.
//!
//! The counter of a decision is registered when the first such decision is made; see `handles`.

use std::sync::{Arc, OnceLock};

use metrics::{
    Counter, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::decision_event::{DecisionReason, Seen};
use super::decision_names::{DECISION, MODE, REASON};
use super::handles::{Described, SharedGauge, policy};

const DECISIONS: Described = ("rate_limit.decisions", "Decisions of limits on requests.");
const SUPPRESSION_FACTOR: Described =
    ("rate_limit.suppression_factor", "The part of the demand that the suppressed strategy sheds, by decision.");
const IN_FLIGHT: Described = ("rate_limit.in_flight", "Requests of this process that hold a permit of a cap.");
const CUT_RESPONSES: Described = ("rate_limit.cut_responses", "Metered responses that ended before their end.");

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct LimitMetrics(Arc<Handles>);

type Counters = [OnceLock<Counter>; Seen::SLOTS];

#[derive(Debug)]
struct Handles {
    policy: Option<Arc<str>>,
    /// The usual reason of refusals.
    refusal: DecisionReason,
    /// Allocated by the first decision, because a process may have many layers that decide nothing.
    decisions: OnceLock<Box<Counters>>,
    factor: OnceLock<Histogram>,
    in_flight: SharedGauge,
    cut_responses: OnceLock<Counter>,
}

impl LimitMetrics {
    pub(super) const IS_ON: bool = true;

    pub(super) fn new(policy: Option<&Arc<str>>, refusal: DecisionReason) -> Self {
        Self(Arc::new(Handles {
            policy: policy.cloned(),
            refusal,
            decisions: OnceLock::new(),
            factor: OnceLock::new(),
            in_flight: SharedGauge::default(),
            cut_responses: OnceLock::new(),
        }))
    }

    /// Counts a decision; `factor` is the part of the demand that is shed.
    #[inline]
    pub(super) fn count(&self, seen: Seen, factor: f64) {
        let counters = self.0.decisions.get_or_init(|| Box::new([const { OnceLock::new() }; Seen::SLOTS]));
        match counters[seen.slot()].get() {
            Some(counter) => counter.increment(1),
            None => self.0.register(counters, seen).increment(1),
        }
        if factor > 0.0 {
            self.0.shed(factor);
        }
    }

    pub(super) fn permit_taken(&self) {
        self.0.in_flight.add(1, || {
            describe_gauge!(IN_FLIGHT.0, Unit::Count, IN_FLIGHT.1);
            gauge!(IN_FLIGHT.0, policy(self.0.policy.as_ref()))
        });
    }

    pub(super) fn permit_returned(&self) {
        self.0.in_flight.subtract(1);
    }

    pub(super) fn response_cut(&self) {
        let register = || {
            describe_counter!(CUT_RESPONSES.0, Unit::Count, CUT_RESPONSES.1);
            counter!(CUT_RESPONSES.0, policy(self.0.policy.as_ref()))
        };
        self.0.cut_responses.get_or_init(register).increment(1);
    }
}

impl Handles {
    /// Registers a counter, and those that usually follow. Counters that start at 0 show their first increase.
    ///
    /// One after the other, because two threads that register each other's counter within their own would wait forever.
    #[cold]
    fn register<'a>(&self, counters: &'a Counters, seen: Seen) -> &'a Counter {
        describe_counter!(DECISIONS.0, Unit::Count, DECISIONS.1);
        let counter = counters[seen.slot()].get_or_init(|| self.handle(seen));
        let usual = [(true, DecisionReason::WithinLimit), (false, self.refusal)];
        for (admits, reason) in usual.into_iter().filter(|_| self.policy.is_some()) {
            let other = Seen::new(admits, seen.is_enforced, reason);
            counters[other.slot()].get_or_init(|| self.handle(other));
        }
        counter
    }

    fn handle(&self, seen: Seen) -> Counter {
        let mut labels = policy(self.policy.as_ref());
        labels.extend([
            Label::from_static_parts(DECISION, seen.outcome().name()),
            Label::from_static_parts(REASON, seen.reason.name()),
            Label::from_static_parts(MODE, seen.mode()),
        ]);
        counter!(DECISIONS.0, labels)
    }

    #[cold]
    fn shed(&self, factor: f64) {
        let register = || {
            describe_histogram!(SUPPRESSION_FACTOR.0, Unit::Count, SUPPRESSION_FACTOR.1);
            histogram!(SUPPRESSION_FACTOR.0, policy(self.policy.as_ref()))
        };
        self.factor.get_or_init(register).record(factor);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    use metrics::{Gauge, Key, KeyName, Metadata, Recorder, SharedString, with_local_recorder};

    use super::*;

    thread_local! {
        static HAS_MET: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets the first registration of each of two threads wait for that of the other.
    struct Meeting(Barrier);

    impl Recorder for Meeting {
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            if !HAS_MET.replace(true) {
                self.0.wait();
            }
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }

        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    }

    #[test]
    fn first_decisions_of_two_threads_do_not_wait_for_each_other() {
        let metrics = LimitMetrics::new(Some(&"client".into()), DecisionReason::OverLimit);
        let meeting = Arc::new(Meeting(Barrier::new(2)));
        let (done, finished) = mpsc::channel();
        for (admits, reason) in [(true, DecisionReason::WithinLimit), (false, DecisionReason::OverLimit)] {
            let (metrics, meeting, done) = (metrics.clone(), Arc::clone(&meeting), done.clone());
            std::thread::spawn(move || {
                with_local_recorder(&*meeting, || metrics.count(Seen::new(admits, true, reason), 0.0));
                done.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            finished.recv_timeout(Duration::from_secs(30)).expect("no thread waits for the other");
        }
    }
}

//! Measures the calls to Redis through the `metrics` facade.

use std::sync::OnceLock;
use std::time::Instant;

use metrics::{
    Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::handles::{Described, SharedGauge};

const DURATION: Described =
    ("rate_limit.store.duration", "The time of a decision in Redis, from the request to the reply.");
const FAILURES: Described = ("rate_limit.store.failures", "Failed calls to Redis, by the kind of the failure.");
const OPEN_BREAKERS: Described =
    ("rate_limit.store.open_breakers", "Open circuit breakers; 0 while Redis is available.");

/// The circuit breakers of one Redis, and the time of its calls.
#[derive(Debug, Default)]
pub(crate) struct RedisWatch {
    duration: OnceLock<Histogram>,
    /// Breakers that are open when the limiter is dropped leave it.
    open: SharedGauge,
}

/// Measures a call until it is dropped.
pub(crate) struct Timer<'a> {
    watch: &'a RedisWatch,
    began: Instant,
}

impl RedisWatch {
    /// Starts to measure a call, which ends when the timer is dropped.
    pub(crate) fn time(&self) -> Timer<'_> {
        Timer { watch: self, began: Instant::now() }
    }

    /// A breaker opened.
    pub(crate) fn breaker_opened(&self) {
        self.open.add(1, open_breakers);
    }

    /// A breaker closed.
    pub(crate) fn breaker_closed(&self) {
        self.open.subtract(1);
    }

    /// Registers the histogram, and the gauge with 0, so that a missing series is distinct from a closed breaker.
    #[cold]
    fn register(&self) -> Histogram {
        self.open.add(0, open_breakers);
        describe_histogram!(DURATION.0, Unit::Seconds, DURATION.1);
        histogram!(DURATION.0)
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let duration = self.watch.duration.get_or_init(|| self.watch.register());
        duration.record(self.began.elapsed());
    }
}

fn open_breakers() -> Gauge {
    describe_gauge!(OPEN_BREAKERS.0, Unit::Count, OPEN_BREAKERS.1);
    gauge!(OPEN_BREAKERS.0)
}

/// Counts a call that failed.
pub(crate) fn count_failure(kind: &'static str) {
    describe_counter!(FAILURES.0, Unit::Count, FAILURES.1);
    counter!(FAILURES.0, "error.type" => kind).increment(1);
}

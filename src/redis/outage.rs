//! What the operator learns of Redis: one log line when it is lost and one when it is back, and figures.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::link::Failure;
use crate::telemetry;

/// A question had no answer.
pub(super) fn failed(failure: &Failure) {
    let _ = failure;
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_weir_redis_failures_total", "kind" => failure.kind().name()).increment(1);
}

/// What goes wrong with one Redis.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The breakers that are open. On a cluster a node's end opens many, and that is one line.
    open: AtomicUsize,
    is_odd: AtomicBool,
    is_forgetful: AtomicBool,
}

impl Outage {
    /// A breaker opened: Redis is not asked any more, or on a cluster not for some keys.
    pub(super) fn began(&self, failure: &Failure) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("tower_weir_redis_open_breakers").increment(1.0);
        if self.open.fetch_add(1, Ordering::Relaxed) == 0 {
            let text = format!("limits follow `on_store_error` until Redis answers a probe: {failure}");
            telemetry::tell(true, "redis-lost", &text);
        }
    }

    /// Redis answered something that makes no sense, or could not be asked from where the call is; neither opens a
    /// breaker, and both are told once, for they may never end.
    pub(super) fn odd(&self, failure: &Failure) {
        if !self.is_odd.swap(true, Ordering::Relaxed) {
            let text = format!("some requests follow `on_store_error`; told once: {failure}");
            telemetry::tell(true, "redis-odd", &text);
        }
    }

    /// Redis has lost what instances had charged; told once, for it may be so with many keys.
    #[cold]
    pub(super) fn forgot(&self) {
        if !self.is_forgetful.swap(true, Ordering::Relaxed) {
            let text = "Redis has lost counts (a restart without persistence, a failover, an eviction): this instance \
                        brings back what it has admitted itself, key by key; told once";
            telemetry::tell(true, "redis-forgot", text);
        }
    }

    /// A breaker closed.
    pub(super) fn ended(&self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("tower_weir_redis_open_breakers").decrement(1.0);
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            telemetry::tell(false, "redis-back", "Redis answers again, and decides");
        }
    }
}

/// What is open when the limiter goes is not open any more.
#[cfg(feature = "metrics")]
impl Drop for Outage {
    fn drop(&mut self) {
        match *self.open.get_mut() {
            0 => {}
            open => metrics::gauge!("tower_weir_redis_open_breakers").decrement(open as f64),
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    #[test]
    fn failures_are_counted_by_kind_and_an_outage_is_gauged() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let values = || {
            let values = snapshotter.snapshot().into_vec().into_iter();
            let mut values: Vec<_> = values
                .map(|(key, _, _, value)| {
                    let labels = key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
                    (key.key().name().to_owned(), labels.collect::<String>(), value)
                })
                .collect();
            values.sort_by(|a, b| a.0.cmp(&b.0));
            values
        };
        let outage = Outage::default();
        metrics::with_local_recorder(&recorder, || {
            failed(&Failure::timeout());
            failed(&Failure::timeout());
            outage.began(&Failure::timeout());
        });
        let gauge =
            |open: f64| ("tower_weir_redis_open_breakers".to_owned(), String::new(), DebugValue::Gauge(open.into()));
        let failures =
            ("tower_weir_redis_failures_total".to_owned(), "kind=timeout".to_owned(), DebugValue::Counter(2));
        assert_eq!(values(), [failures, gauge(1.0)]);
        metrics::with_local_recorder(&recorder, || outage.ended());
        // A snapshot of this recorder leaves zero behind.
        assert_eq!(values().last(), Some(&gauge(-1.0)));
        // A limiter that is dropped while Redis is gone.
        metrics::with_local_recorder(&recorder, || {
            outage.began(&Failure::timeout());
            outage.began(&Failure::timeout());
        });
        assert_eq!(values().last(), Some(&gauge(2.0)));
        metrics::with_local_recorder(&recorder, || drop(outage));
        assert_eq!(values().last(), Some(&gauge(-2.0)));
    }
}

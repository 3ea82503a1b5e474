//! What the operator learns of Redis: one log line when it is lost and one when it is back, and figures.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::link::Failure;
use crate::telemetry;

/// A question had no answer.
pub(super) fn failed(failure: &Failure) {
    let _ = failure;
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_weir_redis_failures_total", "kind" => failure.kind().name()).increment(1);
}

/// The breakers of one Redis that are open. On a cluster a node's end opens many, and that is one line.
#[derive(Debug, Default)]
pub(super) struct Outage(AtomicUsize);

impl Outage {
    /// A breaker opened: Redis is not asked any more, or on a cluster not for some keys.
    pub(super) fn began(&self, failure: &Failure) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("tower_weir_redis_open_breakers").increment(1.0);
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            let text = format!("limits follow `on_store_error` until Redis answers a probe: {failure}");
            telemetry::tell(true, "redis-lost", &text);
        }
    }

    /// A breaker closed.
    pub(super) fn ended(&self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("tower_weir_redis_open_breakers").decrement(1.0);
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            telemetry::tell(false, "redis-back", "Redis answers again, and decides");
        }
    }
}

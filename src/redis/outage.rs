//! What the operator learns of Redis: one log line when it is lost and one when it is back, and figures.

use super::link::Failure;
use crate::telemetry;

/// A question had no answer.
pub(super) fn failed(failure: &Failure) {
    let _ = failure;
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_weir_redis_failures_total", "kind" => failure.kind().name()).increment(1);
}

/// The breaker opened: Redis is not asked any more.
pub(super) fn began(failure: &Failure) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("tower_weir_redis_open_breakers").increment(1.0);
    let text = format!("limits follow `on_store_error` until Redis answers a probe: {failure}");
    telemetry::tell(true, "redis-lost", &text);
}

/// The breaker closed.
pub(super) fn ended() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("tower_weir_redis_open_breakers").decrement(1.0);
    telemetry::tell(false, "redis-back", "Redis answers again, and decides");
}

//! What the operator learns of Redis: one log line when it is lost and one when it is back, and figures.

use std::fmt;

use super::link::Failure;

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
    tell(format_args!("Redis is not asked any more until a probe is answered, and limits follow `on_store_error`: {failure}"));
}

/// The breaker closed.
pub(super) fn ended() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("tower_weir_redis_open_breakers").decrement(1.0);
    tell(format_args!("Redis answers again, and decides"));
}

#[cfg(feature = "tracing")]
fn tell(line: fmt::Arguments<'_>) {
    tracing::warn!(target: "tower_weir", "{line}");
}

#[cfg(not(feature = "tracing"))]
fn tell(line: fmt::Arguments<'_>) {
    eprintln!("tower-weir: {line}");
}

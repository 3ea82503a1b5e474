//! Receives spans and events, with the feature `tracing`.

use tracing::field::Empty;
use tracing::info_span;
use tracing_subscriber::registry::Registry;

/// Runs in a span with the fields of a decision, on the usual registry.
pub fn within<T>(run: impl FnOnce() -> T) -> T {
    tracing::subscriber::set_global_default(Registry::default()).expect("no other subscriber");
    info_span!(
        "request",
        rate_limit.policy = Empty,
        rate_limit.decision = Empty,
        rate_limit.reason = Empty,
        rate_limit.mode = Empty
    )
    .in_scope(run)
}

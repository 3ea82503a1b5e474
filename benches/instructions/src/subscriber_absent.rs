//! Receives nothing, without the feature `tracing`.

/// Runs without a span.
pub fn within<T>(run: impl FnOnce() -> T) -> T {
    run()
}

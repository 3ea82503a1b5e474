//! The builder's setter for the function that sees decisions.

use std::sync::Arc;

use super::builder::RateLimitLayerBuilder;
use crate::telemetry::DecisionEvent;

impl RateLimitLayerBuilder {
    /// Sets a function that sees each decision of each limit: its policy, mode, outcome and reason.
    ///
    /// It needs no feature, and sees no key. It runs for every request before the inner service or the response, so it
    /// must not block. A layer with such a function takes the path of layers with several limits, which costs more.
    ///
    /// The function does not see exempt and denied requests, because no limit decides them. For counters, use the
    /// feature `metrics`; see the page `guide::observability`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::telemetry::DecisionOutcome;
    ///
    /// let refused = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&refused);
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .on_decision(move |event| {
    ///         if event.outcome() == DecisionOutcome::Refused {
    ///             count.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn on_decision(mut self, see: impl Fn(&DecisionEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_decision = Some(Arc::new(see));
        self
    }
}

//! The ways to create a layer.

use super::builder::RateLimitLayerBuilder;
use super::config::RateLimitConfig;
use super::rate_limit_layer::RateLimitLayer;
use crate::error::ConfigError;
use crate::quota::Quota;

impl RateLimitLayer {
    /// Creates a layer that admits `n` requests in any second from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_second(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 1_000))
    }

    /// Creates a layer that admits `n` requests in any minute from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_minute(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 60_000))
    }

    /// Creates a layer that admits `n` requests in any hour from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_hour(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 3_600_000))
    }

    /// Creates a layer that admits `n` requests in any 24 hours from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_day(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 86_400_000))
    }

    /// Creates a layer that limits nothing, for an optional limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let limit: Option<RateLimitLayer> = None; // from the configuration
    /// let layer = limit.unwrap_or_else(RateLimitLayer::disabled);
    /// ```
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn disabled() -> Self {
        let builder = Self::builder().quota(Quota::reject_all()).enabled(false);
        builder.build().expect("one quota is always possible")
    }

    /// Creates a layer from a configuration.
    ///
    /// It is the short form of `RateLimitLayer::builder().config(config).build()`; see
    /// [`RateLimitLayerBuilder::config`].
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidField`], which has the field and the mistake in it.
    pub fn from_config(config: RateLimitConfig) -> Result<Self, ConfigError> {
        Self::builder().config(config).build()
    }

    /// Creates a builder.
    pub fn builder() -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new()
    }

    #[allow(clippy::expect_used)]
    fn simple(quota: Quota) -> Self {
        Self::builder().quota(quota).build().expect("one quota of at most a day is always possible")
    }
}

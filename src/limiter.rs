//! [`RateLimiter`]: the engine's public face.

pub use crate::correction::SetOutcome;
pub use crate::decision::{SuppressionSnapshot, Verdict};

use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::keyspace::Settings;
use crate::quota::{HardLimitFactor, RateGroupSizeMs, SyncIntervalMs, Tolerance, WindowSizeSeconds};
#[cfg(feature = "_redis")]
use crate::redis::{Client, RedisOptions};
#[cfg(feature = "_redis")]
use crate::store::hybrid::HybridStore;
use crate::store::local::LocalStore;
#[cfg(feature = "_redis")]
use crate::store::redis::RedisStore;
use crate::time::{Clock, TimeSource};

/// A rate limiter: one set of options, and the stores that work by them. Cloning shares its state.
///
/// # Examples
///
/// ```
/// use tower_weir::{RateLimit, RateLimitDecision, RateLimiter};
///
/// let rl = RateLimiter::builder().build().unwrap();
/// let rate = RateLimit::try_from(10.0).unwrap();
/// match rl.local().absolute().inc("user_123", &rate, 1) {
///     RateLimitDecision::Allowed => { /* proceed */ }
///     RateLimitDecision::Rejected { retry_after_ms, .. } => { eprintln!("retry in {retry_after_ms}ms"); }
///     RateLimitDecision::Suppressed { .. } => unreachable!(),
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    local: LocalStore,
    #[cfg(feature = "_redis")]
    redis: RedisStore,
    #[cfg(feature = "_redis")]
    hybrid: HybridStore,
}

impl RateLimiter {
    /// Starts with the default options: a window of 60 s in buckets of 10 ms, a hard limit factor of 1.0,
    /// and at most one million keys.
    pub fn builder() -> RateLimiterBuilder {
        RateLimiterBuilder::default()
    }

    /// Creates a limiter that starts nothing by itself; see [`run_cleanup_loop`](Self::run_cleanup_loop).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] where the options contradict each other.
    pub fn new(options: RateLimiterOptions) -> Result<Self, ConfigError> {
        let bucket_ms = options.rate_group_size_ms.get();
        let settings = Settings {
            time: options.clock.map_or_else(TimeSource::system, TimeSource::custom),
            bucket_ms,
            window_seconds: options.window_size_seconds.get(),
            hard: options.hard_limit_factor,
            max_keys: options.max_keys,
        };
        #[cfg(feature = "_redis")]
        let (redis, hybrid) = match &options.redis {
            Some(redis) => {
                let client = Client::new(redis, &settings)?;
                let hybrid = HybridStore::new(&client, &settings, options.sync_interval_ms, options.tolerance)?;
                (RedisStore::new(&client, redis.denies, &settings)?, hybrid)
            }
            None => (RedisStore::none(), HybridStore::none()),
        };
        Ok(Self {
            #[cfg(feature = "_redis")]
            redis,
            #[cfg(feature = "_redis")]
            hybrid,
            local: LocalStore::new(settings)?,
        })
    }

    /// Limits in this process; a clone of it is a handle for a layer.
    #[must_use]
    #[inline]
    pub fn local(&self) -> &LocalStore {
        &self.local
    }

    /// Limits in Redis, for the engine's calls and for [layers](crate::store::RedisStore#examples).
    ///
    /// A limiter that was built without Redis says so in the error of each call, and when a layer is built.
    #[cfg(feature = "_redis")]
    #[must_use]
    pub fn redis(&self) -> &RedisStore {
        &self.redis
    }

    /// Limits in Redis that are decided on in memory, for the engine's calls and for layers.
    ///
    /// A limiter that was built without Redis says so in the error of each call, and when a layer is built.
    #[cfg(feature = "_redis")]
    #[must_use]
    pub fn hybrid(&self) -> &HybridStore {
        &self.hybrid
    }

    /// Starts to return the memory of idle keys in the background, in steps of some thousand keys.
    ///
    /// It needs no runtime, holds the limiter weakly, and may be called again. Without it the number of keys
    /// is bounded all the same, since new keys pay for cleaning up; but memory is not given back while none
    /// comes.
    pub fn run_cleanup_loop(&self) {
        self.local.start_cleanup();
        #[cfg(feature = "_redis")]
        self.redis.start_cleanup();
    }

    /// Stops what [`run_cleanup_loop`](Self::run_cleanup_loop) or the builder started.
    pub fn stop_cleanup_loop(&self) {
        self.local.stop_cleanup();
        #[cfg(feature = "_redis")]
        self.redis.stop_cleanup();
    }
}

/// The options of a [`RateLimiter`].
///
/// End the expression with `..Default::default()`, since options may be added.
#[derive(Clone)]
pub struct RateLimiterOptions {
    /// The window over which a bare [`RateLimit`](crate::RateLimit) is read; default 60 s.
    pub window_size_seconds: WindowSizeSeconds,
    /// The size of a bucket, at most the window; default 10 ms.
    pub rate_group_size_ms: RateGroupSizeMs,
    /// The hard cap of the suppressed strategy; default 1.0.
    pub hard_limit_factor: HardLimitFactor,
    /// The most keys that one limit remembers, at least 1; default one million.
    ///
    /// Keys are forgotten once their window is empty. Where all are live, unknown keys share one budget.
    pub max_keys: usize,
    /// The clock; default [`PreciseClock`](crate::time::PreciseClock).
    pub clock: Option<Arc<dyn Clock>>,
    /// How often the hybrid store syncs with Redis; default 50 ms.
    pub sync_interval_ms: SyncIntervalMs,
    /// By what part the hybrid store may exceed a limit; default 0.
    pub tolerance: Tolerance,
    /// Where Redis is; default none.
    #[cfg(feature = "_redis")]
    pub redis: Option<RedisOptions>,
}

impl Default for RateLimiterOptions {
    fn default() -> Self {
        Self {
            window_size_seconds: WindowSizeSeconds::default(),
            rate_group_size_ms: RateGroupSizeMs::default(),
            hard_limit_factor: HardLimitFactor::default(),
            max_keys: 1_000_000,
            clock: None,
            sync_interval_ms: SyncIntervalMs::default(),
            tolerance: Tolerance::default(),
            #[cfg(feature = "_redis")]
            redis: None,
        }
    }
}

impl fmt::Debug for RateLimiterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterOptions")
            .field("window_size_seconds", &self.window_size_seconds)
            .field("rate_group_size_ms", &self.rate_group_size_ms)
            .field("hard_limit_factor", &self.hard_limit_factor)
            .field("max_keys", &self.max_keys)
            .field("clock", &self.clock.as_ref().map(|_| "Custom"))
            .finish_non_exhaustive()
    }
}

/// Builds a [`RateLimiter`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is limited until `build`"]
pub struct RateLimiterBuilder {
    options: RateLimiterOptions,
}

impl RateLimiterBuilder {
    /// Sets the window over which a bare rate is read; default 60 s.
    pub fn window_size_seconds(mut self, window: WindowSizeSeconds) -> Self {
        self.options.window_size_seconds = window;
        self
    }

    /// Sets the size of a bucket; default 10 ms.
    pub fn rate_group_size_ms(mut self, bucket: RateGroupSizeMs) -> Self {
        self.options.rate_group_size_ms = bucket;
        self
    }

    /// Sets the hard cap of the suppressed strategy; default 1.0.
    pub fn hard_limit_factor(mut self, factor: HardLimitFactor) -> Self {
        self.options.hard_limit_factor = factor;
        self
    }

    /// Sets the most keys that one limit remembers; default one million.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.options.max_keys = max_keys;
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.options.clock = Some(Arc::new(clock));
        self
    }

    /// Sets how often the hybrid store syncs with Redis; default 50 ms.
    pub fn sync_interval_ms(mut self, interval: SyncIntervalMs) -> Self {
        self.options.sync_interval_ms = interval;
        self
    }

    /// Sets by what part the hybrid store may exceed a limit, to ask Redis less often; default 0.
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.options.tolerance = tolerance;
        self
    }

    /// Sets the Redis server, by its URL, with the default options; see [`RedisOptions::url`].
    ///
    /// Nothing is connected to yet.
    #[cfg(feature = "_redis")]
    pub fn redis_url(self, url: impl Into<String>) -> Self {
        self.redis(RedisOptions::url(url))
    }

    /// Sets the Redis server, by a connection to it, with the default options; see [`RedisOptions::connection`].
    #[cfg(feature = "_redis")]
    pub fn redis_connection<C>(self, connection: C) -> Self
    where
        C: ::redis::aio::ConnectionLike + Clone + Send + Sync + 'static,
    {
        self.redis(RedisOptions::connection(connection))
    }

    /// Sets the Redis server, and what is expected of it.
    #[cfg(feature = "_redis")]
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.options.redis = Some(options);
        self
    }

    /// Builds the limiter and starts its cleanup.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] where the options contradict each other.
    pub fn build(self) -> Result<RateLimiter, ConfigError> {
        let limiter = RateLimiter::new(self.options)?;
        limiter.run_cleanup_loop();
        Ok(limiter)
    }
}

//! [`RateLimiter`], the entry point of the engine.

pub use crate::correction::SetOutcome;
pub use crate::decision::{SuppressionSnapshot, Verdict};

use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::keyspace::{QueueBounds, Settings};
use crate::quota::{HardLimitFactor, RateGroupSizeMs, SyncIntervalMs, Tolerance, WindowSizeSeconds};
#[cfg(feature = "_redis")]
use crate::redis::{Client, RedisOptions};
#[cfg(feature = "_redis")]
use crate::store::hybrid::HybridStore;
use crate::store::local::LocalStore;
#[cfg(feature = "_redis")]
use crate::store::redis::RedisStore;
use crate::time::{Clock, TimeSource};

/// A rate limiter: one set of options, and the stores that use them. Clones share its state.
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
    /// Creates a builder with the default options.
    ///
    /// They are a window of 60 s in buckets of 10 ms, a hard limit factor of 1.0, and at most one million keys.
    pub fn builder() -> RateLimiterBuilder {
        RateLimiterBuilder::default()
    }

    /// Creates a limiter without a background task; see [`run_cleanup_loop`](Self::run_cleanup_loop).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the options contradict each other.
    pub fn new(options: RateLimiterOptions) -> Result<Self, ConfigError> {
        let bucket_ms = options.rate_group_size_ms.get();
        let settings = Settings {
            time: options.clock.map_or_else(TimeSource::system, TimeSource::custom),
            bucket_ms,
            window_seconds: options.window_size_seconds.get(),
            hard: options.hard_limit_factor,
            max_keys: options.max_keys,
            queues: QueueBounds { total: options.max_waiting, per_key: options.max_waiting_per_key },
        };
        if settings.queues.total == 0 || settings.queues.per_key == 0 {
            return Err(ConfigError::ZeroMaxWaiting);
        }
        #[cfg(feature = "_redis")]
        let (redis, hybrid) = match &options.redis {
            Some(redis) => {
                let client = Client::new(redis, &settings)?;
                let store = RedisStore::new(&client, redis.denies, &settings)?;
                let (interval, tolerance) = (options.sync_interval_ms, options.tolerance);
                let hybrid = HybridStore::new(&client, Arc::new(store.clone()), &settings, interval, tolerance)?;
                (store, hybrid)
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

    /// The limits in this process. A clone is a handle for a layer.
    #[must_use]
    #[inline]
    pub fn local(&self) -> &LocalStore {
        &self.local
    }

    /// Limits in Redis, for the engine's calls and for [layers](crate::store::RedisStore#examples).
    ///
    /// If the limiter was built without Redis, each call returns an error, and so does a layer's `build`.
    #[cfg(feature = "_redis")]
    #[must_use]
    pub fn redis(&self) -> &RedisStore {
        &self.redis
    }

    /// The limits in Redis that are decided in memory, for the engine's calls and for layers.
    ///
    /// If the limiter was built without Redis, each call returns an error, and so does a layer's `build`.
    #[cfg(feature = "_redis")]
    #[must_use]
    pub fn hybrid(&self) -> &HybridStore {
        &self.hybrid
    }

    /// Starts to free the memory of idle keys in the background, in steps of a few thousand keys.
    ///
    /// The loop needs no runtime and holds the limiter weakly. You can call this method repeatedly. Without the loop,
    /// the number of keys is still bounded, because new keys trigger the cleanup. But memory is not freed while no new
    /// keys arrive.
    pub fn run_cleanup_loop(&self) {
        self.local.start_cleanup();
        #[cfg(feature = "_redis")]
        self.redis.start_cleanup();
    }

    /// Stops the loop that [`run_cleanup_loop`](Self::run_cleanup_loop) or the builder started.
    pub fn stop_cleanup_loop(&self) {
        self.local.stop_cleanup();
        #[cfg(feature = "_redis")]
        self.redis.stop_cleanup();
    }
}

impl Default for RateLimiter {
    /// Creates a limiter with the default options, as [`builder`](Self::builder) and `build` do.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// let limiter = RateLimiter::default();
    /// let rate = RateLimit::try_from(1.0)?; // 60 in any minute
    /// assert!(limiter.local().absolute().inc("k", &rate, 60).is_allowed());
    /// assert!(!limiter.local().absolute().inc("k", &rate, 1).is_allowed());
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    fn default() -> Self {
        Self::builder().build().expect("the default options are valid")
    }
}

/// The options of a [`RateLimiter`].
///
/// End the expression with `..Default::default()`, because later versions may add options.
#[derive(Clone)]
pub struct RateLimiterOptions {
    /// The window for a bare [`RateLimit`](crate::RateLimit); the default is 60 s.
    pub window_size_seconds: WindowSizeSeconds,
    /// The size of a bucket, at most the window; the default is 10 ms.
    pub rate_group_size_ms: RateGroupSizeMs,
    /// The hard cap of the suppressed strategy, as a factor; the default is 1.0.
    pub hard_limit_factor: HardLimitFactor,
    /// The maximum number of keys that one limit retains, at least 1; the default is one million.
    ///
    /// The store forgets a key once its window is empty. If all keys are in use, unknown keys share 1024 budgets.
    pub max_keys: usize,
    /// The maximum number of calls of `until_allowed` that wait at a time in each store, at least 1; the default is 65 536.
    pub max_waiting: usize,
    /// The maximum number of these calls for one key, at least 1; the default is 1024.
    pub max_waiting_per_key: usize,
    /// The clock; the default is [`PreciseClock`](crate::time::PreciseClock).
    pub clock: Option<Arc<dyn Clock>>,
    /// How often the hybrid store syncs with Redis; default 50 ms.
    pub sync_interval_ms: SyncIntervalMs,
    /// The part by which the hybrid store may exceed a limit; the default is 0.
    pub tolerance: Tolerance,
    /// The Redis server; the default is none.
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
            max_waiting: 65_536,
            max_waiting_per_key: 1_024,
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
    /// Sets the window for a bare rate; the default is 60 s.
    pub fn window_size_seconds(mut self, window: WindowSizeSeconds) -> Self {
        self.options.window_size_seconds = window;
        self
    }

    /// Sets the size of a bucket; the default is 10 ms.
    pub fn rate_group_size_ms(mut self, bucket: RateGroupSizeMs) -> Self {
        self.options.rate_group_size_ms = bucket;
        self
    }

    /// Sets the hard cap of the suppressed strategy, as a factor; the default is 1.0.
    pub fn hard_limit_factor(mut self, factor: HardLimitFactor) -> Self {
        self.options.hard_limit_factor = factor;
        self
    }

    /// Sets the maximum number of keys that one limit retains; the default is one million.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.options.max_keys = max_keys;
        self
    }

    /// Sets the maximum number of calls of [`until_allowed`](crate::store::LocalLimits::until_allowed) that wait at a
    /// time in each store; the default is 65 536.
    ///
    /// Beyond it, a call that would have to wait returns an error of the kind
    /// [`QueueFull`](crate::StoreErrorKind::QueueFull).
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.options.max_waiting = max_waiting;
        self
    }

    /// Sets the maximum number of these calls for one key; the default is 1024.
    pub fn max_waiting_per_key(mut self, max_waiting: usize) -> Self {
        self.options.max_waiting_per_key = max_waiting;
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

    /// Sets the part by which the hybrid store may exceed a limit, to call Redis less often; the default is 0.
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.options.tolerance = tolerance;
        self
    }

    /// Sets the Redis server by its URL, with the default options; see [`RedisOptions::url`].
    ///
    /// This method does not connect yet.
    #[cfg(feature = "_redis")]
    pub fn redis_url(self, url: impl Into<String>) -> Self {
        self.redis(RedisOptions::url(url))
    }

    /// Sets the Redis server by a connection to it, with the default options; see [`RedisOptions::connection`].
    #[cfg(feature = "_redis")]
    pub fn redis_connection<C>(self, connection: C) -> Self
    where
        C: ::redis::aio::ConnectionLike + Clone + Send + Sync + 'static,
    {
        self.redis(RedisOptions::connection(connection))
    }

    /// Sets the Redis server and its options.
    #[cfg(feature = "_redis")]
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.options.redis = Some(options);
        self
    }

    /// Builds the limiter and starts its cleanup.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the options contradict each other.
    pub fn build(self) -> Result<RateLimiter, ConfigError> {
        let limiter = RateLimiter::new(self.options)?;
        limiter.run_cleanup_loop();
        Ok(limiter)
    }
}

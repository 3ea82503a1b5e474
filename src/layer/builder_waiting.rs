//! The builder's setters for requests that wait, and the preset for outgoing requests.

use std::time::Duration;

use super::builder::RateLimitLayerBuilder;
use super::rate_limit_layer::RateLimitLayer;
use crate::error::ConfigError;
use crate::key::Global;
use crate::quota::Quota;

/// The longest pause that a server can ask for, by default.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl RateLimitLayer {
    /// Creates a builder for the requests that a client sends: one limit for all of them.
    ///
    /// With [`key(TargetHost)`](crate::key::TargetHost), each server has a limit of its own. All waiting requests may
    /// wait for one key. The inner service must be a client for [`http::Request`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::ServiceBuilder;
    /// use tower_weir::RateLimitLayer;
    ///
    /// # let client = tower::service_fn(async |_: http::Request<()>| Ok::<_, std::io::Error>(http::Response::new(())));
    /// let limit = RateLimitLayer::outgoing("50/s").wait_at_most(Duration::from_secs(2)).heed_retry_after().build()?;
    /// let client = ServiceBuilder::new().layer(limit).service(client);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn outgoing<Q>(quota: Q) -> RateLimitLayerBuilder
    where
        Q: TryInto<Quota, Error: Into<ConfigError>>,
    {
        Self::builder().quotas([quota]).key(Global).max_waiting_per_key(1_024)
    }
}

impl RateLimitLayerBuilder {
    /// Makes a request wait if it would be refused, and its wait is at most `max_wait`; the default is no wait.
    ///
    /// Waiting requests with the same keys are admitted first come, first served. A request waits for the longest wait
    /// of its limits. It is charged when it is admitted, and not while it waits. If its wait is longer than `max_wait`,
    /// or than the deadline of its gRPC client, it is refused at once. A request that the suppressed strategy sheds
    /// does not wait.
    ///
    /// If the client disconnects, the request leaves the queue and is not charged. A waiting request occupies its
    /// connection and its memory, so choose `max_wait` well below the timeouts of your clients and proxies.
    ///
    /// Such a layer decides somewhat slower, also if no request waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/s".parse()?)
    ///     .wait_at_most(Duration::from_millis(500))
    ///     .max_waiting_per_key(4)
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn wait_at_most(mut self, max_wait: Duration) -> Self {
        self.waiting.max_wait = max_wait;
        self
    }

    /// Sets the maximum number of requests that wait at a time in this layer; the default is 1024.
    ///
    /// Beyond it, a request is decided at once.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.waiting.max_waiting = max_waiting;
        self
    }

    /// Sets the maximum number of these requests with the same keys.
    ///
    /// The default is 16, and 1024 for a layer of [`RateLimitLayer::outgoing`].
    pub fn max_waiting_per_key(mut self, max_waiting: usize) -> Self {
        self.waiting.max_waiting_per_key = max_waiting;
        self
    }

    /// Heeds `Retry-After` in responses of the inner service, for clients.
    ///
    /// After a response with the status 429 or 503 and this field, the layer sends no request with the same keys until
    /// the stated time, or for five minutes if that is less. Until then, requests wait as far as
    /// [`wait_at_most`](Self::wait_at_most) allows, and others are refused with the rest of the pause as their wait.
    pub fn heed_retry_after(self) -> Self {
        self.heed_retry_after_at_most(LONGEST_PAUSE)
    }

    /// Like [`heed_retry_after`](Self::heed_retry_after), with another bound on the pause.
    pub fn heed_retry_after_at_most(mut self, longest: Duration) -> Self {
        self.waiting.longest_pause = Some(longest);
        self
    }
}

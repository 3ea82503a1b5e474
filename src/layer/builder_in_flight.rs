//! The setters for caps on the requests in flight.

use std::time::Duration;

use super::builder::RateLimitLayerBuilder;
use super::limit::Limit;
use crate::quota::PermitTtl;

impl Limit {
    /// Caps the requests of a key that are in flight at once, instead of requests per time. `most` is at least 1.
    ///
    /// A request is in flight until its response has ended: until the last frame of the body was sent, or the body or
    /// the response's future was dropped, because the client hung up or the handler panicked. A stream counts for as
    /// long as it lives. For an upgraded connection, see
    /// [`RateLimitHandle::permits`](crate::layer::RateLimitHandle::permits).
    ///
    /// A request beyond the cap is refused with [`RefusalReason::InFlight`](crate::response::RefusalReason::InFlight),
    /// and without `Retry-After`, because nothing shows when another request ends. Such a limit has no quotas and no
    /// cost. A layer decides on it together with its other limits: a request that another limit refuses is not counted.
    ///
    /// With a store in Redis, the cap applies to all instances together; see [`permit_ttl`](Self::permit_ttl). A hybrid
    /// store asks Redis for each request of such a limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::Header;
    /// use tower_weir::{Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-api-key").hashed()).in_flight(4))
    ///     .limit(Limit::per(Header::new("x-api-key").hashed()).quota("100/min").name("rate"))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn in_flight(mut self, most: u64) -> Self {
        self.in_flight.most = Some(most);
        self
    }

    /// Sets for how long Redis counts the requests of an instance that ended without notice; the default is 60 seconds.
    ///
    /// Each instance renews its requests in flight every third of this time, so they count for as long as they last. A
    /// process that is killed frees its requests after this time. It is 1 second to 1 day. Choose a time of several
    /// seconds: an instance that cannot reach Redis for this time loses the count of its requests there until it
    /// returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::{Global, Limit, RateLimitLayer};
    ///
    /// let exports = Limit::per(Global).in_flight(20).permit_ttl(Duration::from_secs(30)).name("exports");
    /// let layer = RateLimitLayer::builder().limit(exports).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn permit_ttl(mut self, ttl: Duration) -> Self {
        match PermitTtl::try_from(ttl) {
            Ok(ttl) => self.in_flight.ttl = Some(ttl),
            Err(error) => self.fail(error),
        }
        self
    }
}

impl RateLimitLayerBuilder {
    /// Caps the requests of a key that are in flight at once; see [`Limit::in_flight`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder().key(ClientIp::peer()).in_flight(4).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn in_flight(mut self, most: u64) -> Self {
        self.short = self.short.in_flight(most);
        self
    }

    /// Sets for how long Redis counts the requests of an instance that ended without notice; see
    /// [`Limit::permit_ttl`].
    pub fn permit_ttl(mut self, ttl: Duration) -> Self {
        self.short = self.short.permit_ttl(ttl);
        self
    }
}

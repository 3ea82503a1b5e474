//! The middleware: [`RateLimitLayer`] and the service it makes.
//!
//! A request gives a key, the key's budget decides, and the request is passed on or answered. A refusal is a
//! response and never an error; errors of the inner service pass through untouched.
//!
//! The layer holds all state behind one [`Arc`]: its clones, and the services it makes,
//! share their budgets. axum calls `layer` once for each route, and all of them count together.
//!
//! The page `guide::layer_order` says which layers belong outside the limit, and which inside.

mod answers;
mod body;
mod builder;
mod drain;
mod exempt;
mod future;
mod gate;
mod service;

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

pub use self::body::RateLimitBody;
pub use self::builder::{IntoStore, RateLimitLayerBuilder};
pub use self::future::ResponseFuture;
pub use self::service::RateLimit;

use self::gate::Gate;
use crate::quota::Quota;

/// What happens to a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingKey {
    /// It is refused: 400 where the client should have sent the key, 500 where the service should have
    /// provided it. The log says once what to do.
    #[default]
    Reject,
    /// It shares one budget with all such requests.
    Shared,
    /// It passes without a limit, and so does a client whose key is missing by mistake.
    ///
    /// For health checks and other requests without a limit use
    /// [`exempt`](crate::RateLimitLayerBuilder::exempt) instead.
    Allow,
}

/// Limits the rate of requests to a service.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use tower_weir::RateLimitLayer;
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(RateLimitLayer::per_minute(60)); // by peer address, in this process
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimitLayer {
    gate: Arc<Gate>,
}

impl RateLimitLayer {
    /// Admits `n` requests in any second from each peer address; 0 refuses everything.
    #[must_use]
    pub fn per_second(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 1_000))
    }

    /// Admits `n` requests in any minute from each peer address; 0 refuses everything.
    #[must_use]
    pub fn per_minute(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 60_000))
    }

    /// Admits `n` requests in any hour from each peer address; 0 refuses everything.
    #[must_use]
    pub fn per_hour(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 3_600_000))
    }

    /// Admits `n` requests in any 24 hours from each peer address; 0 refuses everything.
    #[must_use]
    pub fn per_day(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 86_400_000))
    }

    /// A layer that limits nothing, for a limit that may be absent.
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
        let builder = Self::builder().quota(Quota::refuse_all()).enabled(false);
        builder.build().expect("one quota is always possible")
    }

    /// Starts a layer of one's own.
    pub fn builder() -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new()
    }

    #[allow(clippy::expect_used)]
    fn simple(quota: Quota) -> Self {
        Self::builder().quota(quota).build().expect("one quota of at most a day is always possible")
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimitLayer").field(&self.gate).finish()
    }
}

/// The service must be `Clone`: the response of a request that waits for its decision takes the service that is
/// ready, and leaves a clone. For a service that is not, use tower's `BoxCloneService` in place of `BoxService`, or
/// put tower's `Buffer` between the two.
///
/// ```compile_fail,E0277
/// # use tower::{Layer, service_fn, util::BoxService};
/// # type Hello = http::Response<()>;
/// # let hello = service_fn(async |_: http::Request<()>| Ok::<_, std::io::Error>(Hello::new(())));
/// let service = BoxService::new(hello); // the error names `BoxService<..>: Clone`
/// let limited = tower_weir::RateLimitLayer::per_minute(60).layer(service);
/// ```
impl<S: Clone> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, Arc::clone(&self.gate))
    }
}

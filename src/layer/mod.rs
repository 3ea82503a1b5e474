//! The middleware: [`RateLimitLayer`] and the service it makes.
//!
//! A request gives a key, the key's budget decides, and the request is passed on or answered. A refusal is a
//! response and never an error; errors of the inner service pass through untouched.
//!
//! The layer holds all state behind one [`Arc`]: its clones, and the services it makes,
//! share their budgets. axum calls `layer` once for each route, and all of them count together.
//!
//! Where to put it among other layers is told in `order`, a page without code of its own.

mod answers;
mod body;
mod builder;
mod drain;
mod future;
mod gate;
#[cfg(feature = "axum")]
pub mod order;
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
    /// It passes without a limit.
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

    /// Starts a layer of one's own.
    pub fn builder() -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new()
    }

    #[allow(clippy::expect_used)]
    fn simple(quota: Quota) -> Self {
        Self::builder().quota(quota).build().expect("one quota of at most an hour is always possible")
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimitLayer").field(&self.gate).finish()
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, Arc::clone(&self.gate))
    }
}

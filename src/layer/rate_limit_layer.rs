use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::current::Current;
use super::service::RateLimitService;

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
    pub(super) current: Arc<Current>,
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimitLayer").field(&self.current.get()).finish()
    }
}

/// The service must be `Clone`. A request that waits for its decision takes the ready service and leaves a clone. If a
/// service is not `Clone`, use tower's `BoxCloneService` instead of `BoxService`, or put tower's `Buffer` between the
/// two.
///
/// ```compile_fail,E0277
/// # use tower::{Layer, service_fn, util::BoxService};
/// # type Hello = http::Response<()>;
/// # let hello = service_fn(async |_: http::Request<()>| Ok::<_, std::io::Error>(Hello::new(())));
/// let service = BoxService::new(hello); // the error names `BoxService<..>: Clone`
/// let limited = tower_weir::RateLimitLayer::per_minute(60).layer(service);
/// ```
impl<S: Clone> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService::new(inner, self.current.get())
    }
}

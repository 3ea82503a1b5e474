use std::borrow::Cow;

use axum::extract::MatchedPath;

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the route that axum matched, such as `/users/{id}`.
///
/// Nested routers give the joined template. All requests without a route share one key, `unmatched`. These are
/// requests that reach a fallback, and every request if the layer is outside the router. The raw path is never a key,
/// because a client could invent a new path for each request.
///
/// All clients share a route, so a request that is shed gets a 503. Join this key with [`ClientIp`](crate::ClientIp)
/// to give each client a budget for each route.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_weir::{ClientIp, RateLimitLayer};
/// use tower_weir::key::Route;
///
/// let by_route_and_client =
///     RateLimitLayer::builder().quota("100/min".parse()?).key((Route, ClientIp::peer())).build()?;
/// let app: Router = Router::new()
///     .route("/users/{id}", get(|| async { "a user" }))
///     .route("/search", get(|| async { "results" }))
///     .layer(by_route_and_client);
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Route;

impl KeyExtractor for Route {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        // Every template starts with a slash, so none equals this word.
        out.write(req.extensions().get().map_or("unmatched", MatchedPath::as_str));
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }

    fn text(&self) -> Cow<'static, str> {
        "route".into()
    }
}

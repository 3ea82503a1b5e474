use axum::extract::MatchedPath;

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the route that axum matched, such as `/users/{id}`.
///
/// Routers that are nested give the joined template. All requests without a route share one key, `unmatched`:
/// those that end in a fallback, and every request where the layer stands outside the router, which has not
/// matched yet. The raw path is never a key, since a client could invent a new one for each request.
///
/// A route is shared by its clients, so a request that is shed is answered 503. Join it with
/// [`ClientIp`](crate::ClientIp) to give each client a budget for each route.
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
        // Every template begins with a slash, so none is this word.
        out.write(req.extensions().get().map_or("unmatched", MatchedPath::as_str));
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }
}

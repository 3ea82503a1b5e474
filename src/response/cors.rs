//! Support for CORS: the headers that other origins may read, and preflight requests.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method};

/// The response headers that scripts of other origins can read only if `Access-Control-Expose-Headers` lists them.
///
/// Pass them to a CORS layer outside this one, such as tower-http's:
/// `.expose_headers(tower_weir::response::EXPOSED_HEADERS)`. Without a CORS layer outside, scripts see a refusal as a
/// network error. See `guide::layer_order`.
///
/// # Examples
///
/// ```
/// let value = tower_weir::response::EXPOSED_HEADERS.map(|name| name.to_string()).join(", ");
/// assert!(value.starts_with("retry-after, ratelimit, ratelimit-policy, "));
/// ```
pub const EXPOSED_HEADERS: [HeaderName; 13] = [
    RETRY_AFTER,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
];

/// Whether a request is a CORS preflight (Fetch, "CORS-preflight request").
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

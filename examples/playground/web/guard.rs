//! Keeps the pages of other sites from reading and steering the playground, and this page from loading from them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::api;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts of this server in `Host` and `Origin`.
#[derive(Debug)]
pub(crate) struct Origins([String; 2]);

impl Origins {
    pub(crate) fn new(port: u16) -> Self {
        Self([format!("127.0.0.1:{port}"), format!("localhost:{port}")])
    }

    fn contain(&self, host: &[u8]) -> bool {
        self.0.iter().any(|known| known.as_bytes() == host)
    }

    /// Why a request is refused, if it is.
    fn objection(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        let value = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        // The name of another site can be made to resolve to this machine.
        if !value(header::HOST).is_some_and(|host| self.contain(host)) {
            return Some((StatusCode::MISDIRECTED_REQUEST, "open the page at the address that the program printed"));
        }
        let is_page = request.method() == Method::GET && request.uri().path() == "/";
        let is_foreign_fetch = value(SEC_FETCH_SITE).is_some_and(|site| site != b"same-origin" && site != b"none");
        // Browsers send an origin with each POST. Programs such as curl send none.
        let is_foreign_origin = value(header::ORIGIN)
            .is_some_and(|origin| !origin.strip_prefix(b"http://").is_some_and(|host| self.contain(host)));
        if (is_foreign_fetch && !is_page) || is_foreign_origin {
            return Some((StatusCode::FORBIDDEN, "only the page of this server may send this request"));
        }
        if request.method() == Method::POST && !is_json(headers) {
            return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, with `Content-Type: application/json`"));
        }
        None
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let types = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = types.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

pub(crate) async fn check_origin(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    match origins.objection(&request) {
        Some((status, text)) => api::error(status, text).into_response(),
        None => next.run(request).await,
    }
}

/// Adds the header fields that confine the page. Nothing is loaded from elsewhere, and no other site can frame it.
pub(crate) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

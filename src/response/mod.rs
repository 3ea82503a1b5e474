//! What a refused client is told.
//!
//! HTTP clients get a status, `Retry-After` and a short text; gRPC clients a trailers-only response with the
//! status RESOURCE_EXHAUSTED, since they read nothing else. The decision stands in the response's extensions.

mod retry_after;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::decision::Decision;
use crate::key::{Fault, MissingKey};

/// Why a request was not passed on, and with which status it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: Reason,
}

#[derive(Clone, Copy, Debug)]
enum Reason {
    Limited(Decision),
    MissingKey,
    Unavailable,
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// A gRPC request says so in its content type: `application/grpc`, alone or with a suffix or parameters.
    pub(crate) fn of(request: &HeaderMap) -> Self {
        const GRPC: &[u8] = b"application/grpc";
        let value = request.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        let is_grpc = value.split_at_checked(GRPC.len()).is_some_and(|(kind, rest)| {
            kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        });
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

impl Refusal {
    pub(crate) fn limited(decision: Decision, status: StatusCode) -> Self {
        Self { status, reason: Reason::Limited(decision) }
    }

    pub(crate) fn missing_key(missing: MissingKey) -> Self {
        let status = match missing.fault() {
            Fault::Client => StatusCode::BAD_REQUEST,
            Fault::Server | Fault::PeerAddress | Fault::ProxyHeader => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, reason: Reason::MissingKey }
    }

    pub(crate) fn unavailable() -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, reason: Reason::Unavailable }
    }

    /// The answer; its body is empty for gRPC.
    pub(crate) fn response(&self, protocol: Protocol) -> Response<Bytes> {
        let mut response = match protocol {
            Protocol::Http => self.http(),
            Protocol::Grpc => self.grpc(),
        };
        if let Reason::Limited(decision) = self.reason {
            response.extensions_mut().insert(decision);
            if let Some(wait) = decision.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, retry_after::seconds(wait));
            }
        }
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn message(&self) -> &'static str {
        match self.reason {
            Reason::Limited(_) => "rate limit exceeded",
            Reason::MissingKey if self.status.is_client_error() => "the request does not say who sent it",
            Reason::MissingKey => "the service cannot tell who sent the request",
            Reason::Unavailable => "the rate limiter is unavailable",
        }
    }

    fn http(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(self.message().as_bytes()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    /// Trailers-only: the status stands in the headers and the stream ends with them.
    fn grpc(&self) -> Response<Bytes> {
        let status = match self.reason {
            // RESOURCE_EXHAUSTED, or UNAVAILABLE where the caller is not at fault.
            Reason::Limited(_) if self.status.is_client_error() => "8",
            Reason::Limited(_) | Reason::Unavailable => "14",
            // INVALID_ARGUMENT or INTERNAL.
            Reason::MissingKey if self.status.is_client_error() => "3",
            Reason::MissingKey => "13",
        };
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
        headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(self.message()));
        response
    }
}

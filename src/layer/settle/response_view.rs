use std::fmt;

use http::{Extensions, HeaderMap, Response, StatusCode};

/// A response without its body.
#[derive(Clone, Copy)]
pub struct ResponseView<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> ResponseView<'a> {
    /// Creates a view of a response.
    #[must_use]
    pub fn new<B>(response: &'a Response<B>) -> Self {
        Self { status: response.status(), headers: response.headers(), extensions: response.extensions() }
    }

    /// The status. A gRPC response has 200, whatever its [`grpc_status`](Self::grpc_status).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions, such as a value that the handler inserted.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// The status of a gRPC response without messages. Other gRPC responses have it in their trailers; see
    /// [`BodyEnd::grpc_status`].
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        grpc_status(self.headers)
    }
}

impl fmt::Debug for ResponseView<'_> {
    /// Omits the values of the headers, because they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseView").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The end of a response's body; see [`Limit::settle_at_end`](crate::Limit::settle_at_end).
#[derive(Clone, Copy, Debug)]
pub struct BodyEnd<'a> {
    pub(in crate::layer) status: StatusCode,
    pub(in crate::layer) grpc_status: Option<u16>,
    pub(in crate::layer) trailers: Option<&'a HeaderMap>,
    pub(in crate::layer) bytes: u64,
    pub(in crate::layer) is_complete: bool,
}

impl<'a> BodyEnd<'a> {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The status of a gRPC response, from its trailers or its headers. It is `None` if the stream ended without one.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        self.trailers.and_then(grpc_status).or(self.grpc_status)
    }

    /// The trailers.
    #[must_use]
    pub fn trailers(&self) -> Option<&'a HeaderMap> {
        self.trailers
    }

    /// The bytes of the body that were taken to be sent, before any compression outside this layer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the body ended by itself. Otherwise it failed, or was dropped: the client hung up.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

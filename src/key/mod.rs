//! Who is limited: keys, and how they are read from a request.
//!
//! A [`KeyExtractor`] sees a [`RequestView`], which names no body type, and writes a key's bytes into a
//! [`KeyWriter`]. What is written is injective: two different sequences of values never give the same bytes,
//! so keys can be joined without separators and no client can forge another one's.

mod client_ip;
mod cookie;
mod credentials;
mod digest;
mod extension;
mod from_fn;
mod grpc;
mod header;
mod http_method;
mod joined;
mod lookup;
mod percent;
#[cfg(feature = "axum")]
mod route;
#[cfg(test)]
mod tests;
mod values;
mod writable;
mod writer;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;
use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

pub use self::client_ip::ClientIp;
pub use self::cookie::Cookie;
pub use self::extension::Extension;
pub(crate) use self::from_fn::FromFn;
pub use self::from_fn::IntoKey;
pub use self::grpc::{GrpcMethod, GrpcService};
pub use self::header::Header;
pub use self::http_method::HttpMethod;
pub(crate) use self::lookup::{Lookup, PendingKey};
#[cfg(feature = "axum")]
pub use self::route::Route;
pub use self::writable::Key;
pub use self::writer::KeyWriter;

/// Reads a key from a request.
///
/// # Examples
///
/// ```
/// use tower_weir::{KeyExtractor, KeyWriter, MissingKey, RequestView};
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// struct ByUser;
///
/// impl KeyExtractor for ByUser {
///     fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
///         let user = req.extensions().get::<UserId>().ok_or(MissingKey::from_server("no UserId extension"))?;
///         out.write(&user.0);
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read a key from a request",
    label = "not a `KeyExtractor`",
    note = "use a key such as `ClientIp::peer()`, `Header::new(\"x-api-key\")` or `Extension::<User>::new()`",
    note = "pass a closure to `key_fn`, and the result of `ClientIp::behind(..)` with `?`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// Writes the request's key.
    ///
    /// # Errors
    ///
    /// [`MissingKey`] where the request has none; the layer then does what `on_missing_key` says.
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey>;

    /// Whether keys are shared by all clients, as with [`Global`] or a key that says only what is asked for.
    ///
    /// Requests that are shed by such a key are answered 503, since no single client is at fault.
    fn is_global(&self) -> bool {
        false
    }

    /// Says what is wrong with the extractor's own configuration; called once, when a layer is built.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`], which the layer's `build` returns.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl<K: KeyExtractor + ?Sized> KeyExtractor for Arc<K> {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        (**self).key(req, out)
    }

    fn is_global(&self) -> bool {
        (**self).is_global()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }
}

/// One key for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Global;

impl KeyExtractor for Global {
    fn key(&self, _: &RequestView<'_>, _: &mut KeyWriter) -> Result<(), MissingKey> {
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }
}

/// A request without its body.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestView<'a> {
    /// Views a request.
    #[must_use]
    pub fn new<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The target.
    #[must_use]
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The protocol version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions, where servers and other layers leave what they know.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// Views the head of a request, which is all that an axum extractor has.
impl<'a> From<&'a http::request::Parts> for RequestView<'a> {
    fn from(parts: &'a http::request::Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }
}

impl fmt::Debug for RequestView<'_> {
    /// Headers and targets may be secret: neither is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self.headers.len();
        f.debug_struct("RequestView").field("method", self.method).field("headers", &headers).finish_non_exhaustive()
    }
}

/// A request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey {
    what: &'static str,
    fault: Fault,
}

/// Whose mistake a missing key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Client,
    Server,
    PeerAddress,
    ProxyHeader,
}

impl MissingKey {
    /// The client should have sent it; where it is refused, the answer is 400.
    #[must_use]
    pub const fn from_client(what: &'static str) -> Self {
        Self { what, fault: Fault::Client }
    }

    /// The service should have provided it; where it is refused, the answer is 500.
    #[must_use]
    pub const fn from_server(what: &'static str) -> Self {
        Self { what, fault: Fault::Server }
    }

    pub(crate) const fn peer_address() -> Self {
        Self { what: "no peer address in the request's extensions", fault: Fault::PeerAddress }
    }

    pub(crate) fn what(self) -> &'static str {
        self.what
    }

    /// A trusted proxy passed on a request without a usable address of the client.
    pub(crate) const fn proxy_header(what: &'static str) -> Self {
        Self { what, fault: Fault::ProxyHeader }
    }

    pub(crate) fn fault(self) -> Fault {
        self.fault
    }
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for MissingKey {}

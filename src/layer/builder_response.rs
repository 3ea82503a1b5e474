//! The builder's setters for the responses to clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;

use super::builder::RateLimitLayerBuilder;
use crate::response::{Protocol, RateLimitHeaders, RefusalBody, RefusalContext};

impl RateLimitLayerBuilder {
    /// Sets the status of a rejection, 400 to 599; the default is 429.
    ///
    /// gRPC clients get RESOURCE_EXHAUSTED for 4xx and UNAVAILABLE for 5xx.
    pub fn status(mut self, status: u16) -> Self {
        self.rejected = Some(status);
        self
    }

    /// Sets the status of a request that the suppressed strategy sheds, 400 to 599.
    ///
    /// The default is 429, or 503 if all clients share the keys, as with [`Global`](crate::Global) or a route.
    pub fn shed_status(mut self, status: u16) -> Self {
        self.shed = Some(status);
        self
    }

    /// Sets the form of the body of HTTP refusals; the default is [`RefusalBody::Problem`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::RefusalBody;
    ///
    /// let layer = RateLimitLayer::builder().quota("10/s".parse()?).body(RefusalBody::Text).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn body(mut self, body: RefusalBody) -> Self {
        self.answers.body = body;
        self
    }

    /// Sets the message for a client over the limit: the gRPC message, the text body, or the problem's `detail`.
    ///
    /// gRPC headers contain the message, so `build` returns an error if it is longer than clients accept.
    ///
    /// The default is "rate limit exceeded", or "overloaded" with a status of 5xx. By default, a problem has no
    /// detail.
    pub fn message(mut self, message: impl Into<Arc<str>>) -> Self {
        self.answers.message = Some(message.into());
        self
    }

    /// Sets a function that creates the response of a refusal.
    ///
    /// The function runs for every refusal. Start from a clone of [`RefusalContext::response`], and return it
    /// unchanged for gRPC. The layer then adds:
    ///
    /// - `Retry-After`, if a wait helps; if your response has one, the longer wait is sent
    /// - `Cache-Control: no-store`
    /// - the fields of [`headers`](Self::headers), if your response has none of them
    /// - the [`Decision`](crate::Decision) in the extensions
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{HeaderValue, header::CONTENT_TYPE};
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::Protocol;
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .quota("10/s".parse()?)
    ///     .on_refusal(|refusal| {
    ///         let mut response = refusal.response().clone();
    ///         if refusal.protocol() == Protocol::Http {
    ///             let html = format!("<h1>Too fast</h1><p>The limit is {}.", refusal.policy().quotas()[0]);
    ///             *response.body_mut() = Bytes::from(html);
    ///             response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    ///         }
    ///         response
    ///     })
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn on_refusal<F>(mut self, on_refusal: F) -> Self
    where
        F: Fn(&RefusalContext<'_>) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.answers.on_refusal = Some(Arc::new(on_refusal));
        self
    }

    /// Sets the protocol of refusals; the default is [`Protocol::Auto`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::Protocol;
    ///
    /// // For a server that speaks only gRPC.
    /// let layer = RateLimitLayer::builder().quota("10/s".parse()?).protocol(Protocol::Grpc).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.answers.protocol = protocol;
        self
    }

    /// Sets which header fields inform clients of their quota; the default is [`RateLimitHeaders::None`].
    ///
    /// Responses to admitted requests have these fields too, in addition to those of the handler. Clients respect
    /// `Retry-After`, which needs none of these fields. Few clients read them.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::RateLimitHeaders;
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .name("burst")
    ///     .quota("100/min".parse()?)
    ///     .headers(RateLimitHeaders::Draft8) // RateLimit: "burst";r=99;t=60
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn headers(mut self, headers: RateLimitHeaders) -> Self {
        self.answers.headers = headers;
        self
    }

    /// Adds a second family of header fields to that of [`headers`](Self::headers), for clients of both kinds.
    ///
    /// You can combine one draft with `XRateLimit`. Two drafts write the same headers, and `build` returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::{RateLimitHeaders, ResetFormat};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .headers(RateLimitHeaders::Draft8)
    ///     .also_headers(RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds })
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn also_headers(mut self, headers: RateLimitHeaders) -> Self {
        self.answers.also_headers.push(headers);
        self
    }

    /// Sets the jitter: how much longer than the true wait a refused client may have to wait; the default is zero.
    ///
    /// With jitter, clients that were refused together do not return together. It applies to `Retry-After`, which is
    /// rounded up to whole seconds, and to the waits for gRPC clients. Its unit is whole milliseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).jitter(Duration::from_secs(5)).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn jitter(mut self, most: Duration) -> Self {
        self.answers.jitter = most;
        self
    }

    /// Sets how much of a refused HTTP/1 request's body the layer reads and discards before the response; the default
    /// is 32 MiB.
    ///
    /// If a server has not read a request's body, it closes the HTTP/1 connection. A client that is still sending then
    /// gets a reset instead of its response. A proxy responds with 502 and may mark the server as failed.
    ///
    /// The layer does not read a body with a longer `Content-Length`, and with 0 it reads nothing. The response then
    /// has `Connection: close`. A client that waits for `100 Continue` gets its response at once. The layer
    /// also responds at once over HTTP/2, which keeps the connection open in any case.
    ///
    /// Set it to at least the largest upload that the service and the proxies in front of it accept.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("10/s".parse()?).drain_bytes(100 << 20).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn drain_bytes(mut self, most: u64) -> Self {
        self.drain.most_bytes = most;
        self
    }

    /// Sets how long reading a refused request's body may take; the default is 30 s.
    ///
    /// After that time, the layer sends the response with `Connection: close`. See [`drain_bytes`](Self::drain_bytes).
    pub fn drain_timeout(mut self, most: Duration) -> Self {
        self.drain.within = most;
        self
    }

    /// Adds a type of request body that the layer can read if the request is refused; see
    /// [`drain_bytes`](Self::drain_bytes).
    ///
    /// With the features `axum` and `tonic`, the layer knows `axum::body::Body` and `tonic::body::Body`. Add the body
    /// type of any other server, such as `hyper::body::Incoming`, and of a layer outside this one that changes the
    /// type.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer =
    ///     RateLimitLayer::builder().quota("10/s".parse()?).drain_body::<hyper::body::Incoming>().build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn drain_body<B: Body + Send + 'static>(mut self) -> Self {
        self.drain = self.drain.with_body::<B>();
        self
    }
}

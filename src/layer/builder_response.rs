//! The builder's setters for what a client is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;

use super::builder::RateLimitLayerBuilder;
use crate::response::{Protocol, RateLimitHeaders, RefusalBody, RefusalContext};

impl RateLimitLayerBuilder {
    /// Sets the status of a rejection, 400 to 599; default 429.
    ///
    /// gRPC clients get RESOURCE_EXHAUSTED for 4xx and UNAVAILABLE for 5xx.
    pub fn status(mut self, status: u16) -> Self {
        self.rejected = Some(status);
        self
    }

    /// Sets the status of a request that the suppressed strategy sheds, 400 to 599; default 429, and 503
    /// where keys are shared by all clients, as with [`Global`](crate::Global) or a route.
    pub fn shed_status(mut self, status: u16) -> Self {
        self.shed = Some(status);
        self
    }

    /// Sets the form of the body of HTTP refusals; default [`RefusalBody::Problem`].
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

    /// Sets what a client over the limit reads: the gRPC message, the text body, or the problem's `detail`.
    ///
    /// A message goes into gRPC headers, so `build` returns an error if it is longer than clients accept.
    ///
    /// Default "rate limit exceeded", or "overloaded" with a status of 5xx; a problem then has no detail.
    pub fn message(mut self, message: impl Into<Arc<str>>) -> Self {
        self.answers.message = Some(message.into());
        self
    }

    /// Sets a function that makes the response of a refusal.
    ///
    /// It is called for refusals of every reason and protocol, in place of nothing: start from a clone of
    /// [`RefusalContext::response`], and hand that back where the protocol is gRPC. To the result are added
    /// `Retry-After`, where a wait helps (the longer one if it has one), `Cache-Control: no-store`, the fields of
    /// [`headers`](Self::headers) that it lacks, and the [`Decision`](crate::Decision) in its extensions.
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

    /// Sets the protocol in which refusals are answered; default [`Protocol::Auto`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::response::Protocol;
    ///
    /// // For a server that speaks nothing else.
    /// let layer = RateLimitLayer::builder().quota("10/s".parse()?).protocol(Protocol::Grpc).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.answers.protocol = protocol;
        self
    }

    /// Sets which header fields tell clients of their quota; default [`RateLimitHeaders::None`].
    ///
    /// They stand on the responses to admitted requests too, beside what the handler has set. Clients heed
    /// `Retry-After`, which needs none of this; few read these fields.
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
    /// One draft and `XRateLimit` go together. Two drafts write the same headers, and `build` returns an error.
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

    /// Sets up to how much longer than the true wait a refused client is told to wait; default zero.
    ///
    /// Then clients that were refused together do not return together. It counts in `Retry-After`, which is
    /// rounded up to whole seconds, and in what gRPC clients are told; in whole milliseconds.
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

    /// Sets how much of a refused HTTP/1 request's body is read and discarded before the answer; default 32 MiB.
    ///
    /// A server closes an HTTP/1 connection whose request body it has not read. A client that is still sending then
    /// gets a reset instead of its answer, and a proxy answers 502 and may take the server for dead. A longer
    /// `Content-Length` is not read at all, and 0 reads nothing; the answer then says `Connection: close`. A client
    /// that waits for `100 Continue` is answered at once, and so is HTTP/2, which needs none of this.
    ///
    /// Set it to at least the largest upload that the service and the proxies before it accept.
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

    /// Sets how long reading a refused request's body may take; default 30 s.
    ///
    /// Afterwards the answer is sent anyway, with `Connection: close`. See [`drain_bytes`](Self::drain_bytes).
    pub fn drain_timeout(mut self, most: Duration) -> Self {
        self.drain.within = most;
        self
    }

    /// Adds a type of request body that can be read when its request is refused; see
    /// [`drain_bytes`](Self::drain_bytes).
    ///
    /// `axum::body::Body` and `tonic::body::Body` are known with the features `axum` and `tonic`. Name the body of
    /// any other server, such as `hyper::body::Incoming`, and of a layer around this one that changes the type.
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

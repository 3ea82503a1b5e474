//! The setters for charges that depend on the response.

use std::sync::Arc;

use super::builder::RateLimitLayerBuilder;
use super::limit::Limit;
use super::settle::{BodyEnd, Charge, ResponseView};

impl Limit {
    /// Sets a function that keeps, refunds or raises the charge when the head of the response is known.
    ///
    /// Until then, the request is charged its cost, so requests in flight never exceed the limit. The units are dated at
    /// the request. Without a response, the charge stays: if the client hangs up, the handler panics, or the inner
    /// service fails. The function does not see refusals by this layer.
    ///
    /// A refund needs no wait; a store in Redis gets it soon. On a hybrid store, this limit asks Redis for each request,
    /// because the units of a lease cannot be refunded after its end.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_weir::{Limit, RateLimitLayer, key::Header};
    ///
    /// // Only failed logins count.
    /// let limit = Limit::per(Header::new("x-account")).quota("5/15min").settle(|charge, response| {
    ///     if response.status() != StatusCode::UNAUTHORIZED {
    ///         charge.refund();
    ///     }
    /// });
    /// let layer = RateLimitLayer::builder().limit(limit).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn settle(mut self, settle: impl Fn(&mut Charge, &ResponseView<'_>) + Send + Sync + 'static) -> Self {
        self.settles.head = Some(Arc::new(settle));
        self
    }

    /// Sets a function that keeps, refunds or raises the charge when the body of the response ends: for its size, and
    /// for the status of a gRPC response.
    ///
    /// It also runs if the body fails or is dropped before its end, because the client hung up. It runs once, and
    /// after the function of [`settle`](Self::settle).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// // A response is charged a unit for each 1000 bytes, and 10 until its size is known.
    /// let limit = Limit::per(ClientIp::peer()).quota("1000000/h").name("kilobytes");
    /// let limit = limit.cost(|_| 10).settle_at_end(|charge, end| charge.set(end.bytes().div_ceil(1_000)));
    /// // Only gRPC calls that fail count.
    /// let failures = Limit::per(ClientIp::peer()).quota("5/min").name("failures");
    /// let failures = failures.settle_at_end(|charge, end| {
    ///     if end.grpc_status() == Some(0) {
    ///         charge.refund();
    ///     }
    /// });
    /// let layer = RateLimitLayer::builder().limit(limit).limit(failures).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn settle_at_end(mut self, settle: impl Fn(&mut Charge, &BodyEnd<'_>) + Send + Sync + 'static) -> Self {
        self.settles.end = Some(Arc::new(settle));
        self
    }
}

impl RateLimitLayerBuilder {
    /// Sets a function that keeps, refunds or raises the charge when the head of the response is known; see
    /// [`Limit::settle`]. It applies to the limits without such functions of their own.
    pub fn settle(mut self, settle: impl Fn(&mut Charge, &ResponseView<'_>) + Send + Sync + 'static) -> Self {
        self.settles.head = Some(Arc::new(settle));
        self
    }

    /// Does the same when the body of the response ends; see [`Limit::settle_at_end`].
    pub fn settle_at_end(mut self, settle: impl Fn(&mut Charge, &BodyEnd<'_>) + Send + Sync + 'static) -> Self {
        self.settles.end = Some(Arc::new(settle));
        self
    }
}

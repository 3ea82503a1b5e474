//! The setters for limits that meter responses.

use std::sync::Arc;

use bytes::Bytes;

use super::limit::Limit;
use super::meter::{AtLimit, Units};

impl Limit {
    /// Charges the response while it is sent: the function returns the units of each data frame.
    ///
    /// A frame is sent only after its units are charged, so a response never exceeds the limit. The cost of the request
    /// is a reservation: frames spend it first, for a minute, and later frames ask the limit for their units. What is not
    /// spent returns when the body ends, or when it is dropped, because the client hung up. Units count from the instant
    /// at which their frame is sent. Without a response, the cost of the request stays charged.
    ///
    /// [`at_limit`](Self::at_limit) sets what happens to a response whose next frame does not fit. Frames are those that
    /// the handler produces: a server-sent event, or a message of a gRPC stream, is one frame. A frame that needs no I/O
    /// allocates nothing. With the Redis store, each frame beyond the reservation is a round trip; a hybrid store decides
    /// most frames from memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_weir::key::Header;
    /// use tower_weir::layer::AtLimit;
    /// use tower_weir::{Limit, RateLimitLayer};
    ///
    /// /// The tokens of a server-sent event.
    /// fn tokens(frame: &Bytes) -> u64 {
    ///     frame.len() as u64 / 4
    /// }
    ///
    /// let limit = Limit::per(Header::new("authorization").hashed()).quota("100000/min").name("tokens");
    /// // 500 tokens are reserved for each request.
    /// let limit = limit.cost(|_| 500).meter(tokens).at_limit(AtLimit::end_with("event: limit\n\n"));
    /// let layer = RateLimitLayer::builder().limit(limit).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn meter(self, units: impl Fn(&Bytes) -> u64 + Send + Sync + 'static) -> Self {
        self.metered(Units::Counted(Arc::new(units)))
    }

    /// Charges the response a unit for each byte of its body; see [`meter`](Self::meter).
    ///
    /// If a frame does not fit, the part that fits is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::layer::AtLimit;
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// // Downloads slow down to 100 kB per second.
    /// let limit = Limit::per(ClientIp::peer()).quota("100000/s").name("bytes").meter_bytes().at_limit(AtLimit::Slow);
    /// let layer = RateLimitLayer::builder().limit(limit).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn meter_bytes(self) -> Self {
        self.metered(Units::Bytes)
    }

    /// Sets what happens to a response whose next frame does not fit this limit, which [meters](Self::meter) it. The
    /// default is [`AtLimit::EndStream`].
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.at_limit = Some(at_limit);
        self
    }

    fn metered(mut self, units: Units) -> Self {
        self.metering = Some(units);
        self
    }
}

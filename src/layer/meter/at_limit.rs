use bytes::Bytes;

/// What happens to a response when its next frame does not fit the limit; see
/// [`Limit::at_limit`](crate::Limit::at_limit).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// The response ends with an error, so that the client does not take it for complete. This is the default.
    ///
    /// A gRPC stream ends with the status `RESOURCE_EXHAUSTED` in its trailers. Other bodies end with
    /// [`RateLimitBodyError::LimitExceeded`](crate::layer::RateLimitBodyError::LimitExceeded): a server resets the
    /// stream, or closes a connection of HTTP/1.1.
    #[default]
    EndStream,
    /// The response ends normally, with this data as its last frame, such as a server-sent event.
    ///
    /// A gRPC stream, and a response with a `Content-Length`, end as with [`EndStream`](Self::EndStream).
    EndWith(Bytes),
    /// The response waits until its next frame fits, so it slows down to the rate of the limit.
    ///
    /// A frame that can never fit ends the response.
    Slow,
    /// The response goes on, and its units are charged although they do not fit.
    Finish {
        /// The most units over the limit, for one response. Beyond them the response ends.
        at_most: u64,
    },
}

impl AtLimit {
    /// Ends the response normally, with this data as its last frame.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::layer::AtLimit;
    ///
    /// let at_limit = AtLimit::end_with("event: error\ndata: the token limit is reached\n\n");
    /// # assert!(matches!(at_limit, AtLimit::EndWith(_)));
    /// ```
    #[must_use]
    pub fn end_with(data: impl Into<Bytes>) -> Self {
        Self::EndWith(data.into())
    }
}

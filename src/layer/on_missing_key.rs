/// What happens to a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingKey {
    /// It is refused: 400 where the client should have sent the key, 500 where the service should have
    /// provided it. The log says once what to do.
    #[default]
    Reject,
    /// It shares one budget with all such requests.
    Shared,
    /// It passes without a limit, and so does a client whose key is missing by mistake.
    ///
    /// For health checks and other requests without a limit use
    /// [`exempt`](crate::RateLimitLayerBuilder::exempt) instead.
    Allow,
}

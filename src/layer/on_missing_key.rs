use crate::policy::words;

/// The behavior for a request without a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMissingKey {
    /// The request is refused: with 400 if the client should have sent the key, and with 500 if the service should
    /// have provided it. The log contains the fix for the latter, once.
    #[default]
    Reject,
    /// The request shares one budget with all other requests without a key.
    Shared,
    /// The request is admitted without a limit. That includes a client whose key is missing by mistake.
    ///
    /// For health checks and other requests without a limit, use [`exempt`](crate::RateLimitLayerBuilder::exempt)
    /// instead.
    Allow,
}

words!(OnMissingKey: "reject" => Reject, "shared" => Shared, "allow" => Allow);

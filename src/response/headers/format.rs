//! The generations of the fields, and how their texts are quoted.

use crate::error::{ConfigError, shortened};

/// Which fields tell clients, admitted and refused, of their quota.
///
/// *Remaining* is what is left after this request. *Reset* is the window in seconds while something is left, so
/// that a client which spreads the remaining requests over that time stays within the quota; and where
/// nothing is left the wait, as in `Retry-After`; if no wait helps, there is no reset. Redirects (3xx other than 304)
/// get no such field.
///
/// Of several quotas `RateLimit-Policy` lists all, as the drafts ask. The others describe one, which they allow: of
/// an admitted request the quota that is nearest to exhaustion, of a refused one that which takes longest to have
/// room. What it leaves is what a client may use; a [`Decision`](crate::Decision) has no figures of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitHeaders {
    /// None.
    #[default]
    None,
    /// `RateLimit-Policy: "default";q=100;w=60` and `RateLimit: "default";r=99;t=60`, as in drafts 08 to 11.
    ///
    /// With several quotas the second is called `default-2` and so on. Both fields are lists: layers
    /// around each other append to them, and should have names of their own.
    Draft8,
    /// `RateLimit-Policy: 100;w=60` and `RateLimit: limit=100, remaining=99, reset=60`, as in draft 07.
    Draft7,
    /// `RateLimit-Policy: 100;w=60`, `RateLimit-Limit: 100`, `RateLimit-Remaining: 99` and
    /// `RateLimit-Reset: 60`, as in drafts up to 06.
    Draft6,
    /// `X-RateLimit-Limit: 100`, `X-RateLimit-Remaining: 99` and `X-RateLimit-Reset`, as many services send.
    XRateLimit {
        /// What the reset is.
        reset: ResetFormat,
    },
}

/// How `X-RateLimit-Reset` tells its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970, by the server's clock and rounded up.
    EpochSeconds,
}

/// Names go into headers: printable ASCII only, the characters of a String (RFC 9651 section 3.3.3).
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    match name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(()),
        false => Err(ConfigError::InvalidPolicyName(shortened(name))),
    }
}

/// A String of a structured field.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

//! The generations of the fields, and the quoting of their texts.

use crate::error::{ConfigError, shortened};

/// The header fields that inform clients, admitted and refused, of their quota.
///
/// *Remaining* is the number of units after this request. *Reset* depends on it:
///
/// - While units remain, it is the window in seconds. A client that spreads the remaining requests over that time
///   stays within the quota.
/// - If no units remain, it is the wait, as in `Retry-After`.
/// - If no wait helps, there is no reset.
///
/// Redirects (3xx other than 304) have no such field.
///
/// With several quotas, `RateLimit-Policy` lists all of them, as the drafts require. The other fields describe one
/// quota: for an admitted request the one closest to exhaustion, for a refused request the one with the longest wait.
/// A [`Decision`](crate::Decision) has no figures of the other quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitHeaders {
    /// No fields.
    #[default]
    None,
    /// `RateLimit-Policy: "default";q=100;w=60` and `RateLimit: "default";r=99;t=60`, as in drafts 08 to 11.
    ///
    /// With several quotas, the second one has the name `default-2`, and so on. Both fields are lists. Stacked layers
    /// append to them, and each should have its own name.
    Draft8,
    /// `RateLimit-Policy: 100;w=60` and `RateLimit: limit=100, remaining=99, reset=60`, as in draft 07.
    Draft7,
    /// `RateLimit-Policy: 100;w=60`, `RateLimit-Limit: 100`, `RateLimit-Remaining: 99` and
    /// `RateLimit-Reset: 60`, as in drafts up to 06.
    Draft6,
    /// `X-RateLimit-Limit: 100`, `X-RateLimit-Remaining: 99` and `X-RateLimit-Reset`, as many services send.
    XRateLimit {
        /// The format of the reset.
        reset: ResetFormat,
    },
}

/// The time format of `X-RateLimit-Reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetFormat {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970 by the server's clock, rounded up.
    EpochSeconds,
}

/// Checks a name for headers. It must be printable ASCII, as a String (RFC 9651 section 3.3.3) requires.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    match name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(()),
        false => Err(ConfigError::InvalidPolicyName(shortened(name))),
    }
}

/// Quotes a text as a String of a structured field.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

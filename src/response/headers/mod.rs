//! The RateLimit fields (draft-ietf-httpapi-ratelimit-headers, revisions up to 11) and their predecessors.
//!
//! The layer's `build` renders the constant parts. No revision is a standard yet, so each generation of the wire
//! format has its own variant.

mod fields;
mod format;
mod merge;
#[cfg(test)]
mod tests;

pub(super) use self::fields::{Fields, are_set};
pub(crate) use self::format::check_name;
pub use self::format::{RateLimitHeaders, ResetFormat};

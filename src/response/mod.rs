//! What a client is told.
//!
//! A refused HTTP client gets a status, `Retry-After` and a body; a gRPC client a trailers-only response, since
//! it reads nothing else. The decision stands in the response's extensions. With
//! [`RateLimitHeaders`] an admitted client learns too how much is left.
//!
//! What does not depend on the request is rendered once, when a layer is built.

mod cors;
mod details;
mod grpc;
mod header_value;
mod headers;
mod problem;
mod protocol;
mod quota_names;
mod refusal;
mod refusal_template;
mod responder;
mod retry_after;

pub use self::cors::EXPOSED_HEADERS;
pub(crate) use self::cors::is_preflight;
pub use self::headers::{RateLimitHeaders, ResetFormat};
pub use self::protocol::Protocol;
pub(crate) use self::refusal::Refusal;
pub use self::refusal::{RefusalBody, RefusalContext, RefusalReason};
pub(crate) use self::responder::{HeadersToAdd, Options, Responder};

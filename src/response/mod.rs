//! The responses to clients.
//!
//! A refused HTTP client gets a status, `Retry-After` and a body. A refused gRPC client gets a trailers-only response,
//! because it reads nothing else. The response's extensions contain the decision. With [`RateLimitHeaders`], responses
//! to admitted requests also contain the remaining quota.
//!
//! The layer's `build` renders everything that does not depend on the request.

mod cors;
mod details;
mod fixed_refusal;
mod grpc;
mod header_value;
mod headers;
mod problem;
mod protocol;
mod quota_names;
mod refusal;
mod refusal_body;
mod refusal_template;
mod rendered;
mod responder;
mod retry_after;

pub use self::cors::EXPOSED_HEADERS;
pub(crate) use self::cors::is_preflight;
pub(crate) use self::headers::check_name;
pub use self::headers::{RateLimitHeaders, ResetFormat};
pub use self::protocol::Protocol;
pub(crate) use self::refusal::{Judged, Limited, Refusal};
pub use self::refusal::{RefusalContext, RefusalReason};
pub use self::refusal_body::RefusalBody;
pub(crate) use self::rendered::Rendered;
pub(crate) use self::responder::{HeadersToAdd, Options, Responder};
pub(crate) use self::retry_after::longest as longest_retry_after;

//! What a client is told.
//!
//! A refused HTTP client gets a status, `Retry-After` and a body; a gRPC client a trailers-only response, since
//! it reads nothing else. The decision stands in the response's extensions. With
//! [`RateLimitHeaders`] an admitted client learns too how much is left.
//!
//! What does not depend on the request is rendered once, when a layer is built.

mod details;
mod grpc;
mod kind;
mod problem;
mod protocol;
mod refusal;
mod retry_after;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

pub use self::protocol::Protocol;
pub(crate) use self::refusal::{OnRefusal, Refusal};
pub use self::refusal::{RefusalBody, RefusalContext, RefusalReason};

use self::kind::Kinds;
use self::protocol::Wire;
use crate::decision::Verdict;
use crate::store::Policy;

/// How the answers of a layer look, as it was configured.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) body: RefusalBody,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) protocol: Protocol,
    pub(crate) on_refusal: Option<Arc<OnRefusal>>,
}

/// The answers of a layer.
pub(crate) struct Answers {
    policy: Policy,
    kinds: Kinds,
    protocol: Protocol,
    on_refusal: Option<Arc<OnRefusal>>,
}

impl Answers {
    /// Renders what does not change; `rejected` and `shed` are the statuses of the two strategies' refusals.
    pub(crate) fn new(options: Options, policy: Policy, rejected: StatusCode, shed: StatusCode) -> Self {
        let kinds = Kinds::new(&policy, options.body, options.message.as_deref(), rejected, shed);
        Self { policy, kinds, protocol: options.protocol, on_refusal: options.on_refusal }
    }

    /// The answer to a request, with these headers, that is not passed on.
    pub(crate) fn refuse(&self, refusal: &Refusal, request: &HeaderMap) -> Response<Bytes> {
        let wire = Wire::of(self.protocol, request);
        let wait = refusal.decision().and_then(crate::decision::Decision::retry_after);
        let kind = match refusal {
            Refusal::Limited(decision) if matches!(decision.verdict(), Verdict::Suppressed { .. }) => &self.kinds.shed,
            Refusal::Limited(_) => &self.kinds.rejected,
            Refusal::MissingKey(fault) => self.kinds.missing_key(*fault),
            Refusal::Unavailable => &self.kinds.unavailable,
        };
        let mut response = kind.response(wire, refusal.decision(), wait);
        let finish = |response: &mut Response<Bytes>| {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if let Some(decision) = refusal.decision() {
                response.extensions_mut().insert(*decision);
            }
            // Of a redirection it would mean something else (RFC 9110 section 10.2.3).
            if let (Some(wait), false) = (wait, response.status().is_redirection()) {
                retry_after::raise(response.headers_mut(), retry_after::seconds(wait));
            }
        };
        finish(&mut response);
        let Some(on_refusal) = &self.on_refusal else { return response };
        let mut theirs = on_refusal(&RefusalContext { refusal, policy: &self.policy, wire, response: &response });
        finish(&mut theirs);
        theirs
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The names under which the quotas of a limit are told: the limit's, and from the second on with a number.
fn names(policy: &Policy) -> impl Iterator<Item = String> {
    let name = policy.name();
    (1..=policy.quotas().len()).map(move |n| if n == 1 { name.to_owned() } else { format!("{name}-{n}") })
}

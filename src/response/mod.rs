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
mod headers;
mod kind;
mod line;
mod problem;
mod protocol;
mod refusal;
mod retry_after;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

pub use self::cors::EXPOSED_HEADERS;
pub(crate) use self::cors::is_preflight;
pub(crate) use self::headers::Standing;
pub use self::headers::{RateLimitHeaders, ResetFormat};
pub use self::protocol::Protocol;
pub(crate) use self::refusal::{OnRefusal, Refusal};
pub use self::refusal::{RefusalBody, RefusalContext, RefusalReason};

use self::headers::Fields;
use self::kind::Kinds;
use self::protocol::Wire;
use crate::decision::{Decision, Verdict};
use crate::error::ConfigError;
use crate::store::Policy;
use crate::time::millis;

/// How the answers of a layer look, as it was configured.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) body: RefusalBody,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) headers: RateLimitHeaders,
    pub(crate) jitter: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) on_refusal: Option<Arc<OnRefusal>>,
}

/// The answers of a layer.
pub(crate) struct Answers {
    policy: Policy,
    kinds: Kinds,
    fields: Option<Fields>,
    jitter_ms: u64,
    protocol: Protocol,
    on_refusal: Option<Arc<OnRefusal>>,
}

impl Answers {
    /// Renders what does not change; `rejected` and `shed` are the statuses of the two strategies' refusals.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidPolicyName`].
    pub(crate) fn new(
        options: Options,
        policy: Policy,
        rejected: StatusCode,
        shed: StatusCode,
    ) -> Result<Self, ConfigError> {
        headers::check_name(policy.name())?;
        let kinds = Kinds::new(&policy, options.body, options.message.as_deref(), rejected, shed);
        Ok(Self {
            fields: Fields::new(options.headers, &policy),
            policy,
            kinds,
            jitter_ms: millis(options.jitter),
            protocol: options.protocol,
            on_refusal: options.on_refusal,
        })
    }

    /// What the response to an admitted request has to tell; nothing with headers off.
    #[inline]
    pub(crate) fn standing(&self, decision: &Decision) -> Option<Standing> {
        self.fields.as_ref()?.standing(decision)
    }

    /// Tells it, except to redirections: a client would wait before it follows them.
    pub(crate) fn tell(&self, standing: &Standing, status: StatusCode, headers: &mut HeaderMap) {
        if let (Some(fields), false) = (&self.fields, status.is_redirection()) {
            fields.admitted(standing, headers);
        }
    }

    /// The answer to a request, with these headers, that is not passed on.
    pub(crate) fn refuse(&self, refusal: &Refusal, request: &HeaderMap) -> Response<Bytes> {
        let wire = Wire::of(self.protocol, request);
        let wait = refusal.decision().and_then(Decision::retry_after).map(|wait| self.jittered(wait));
        let kind = match refusal {
            Refusal::Limited(decision) if matches!(decision.verdict(), Verdict::Suppressed { .. }) => &self.kinds.shed,
            Refusal::Limited(_) => &self.kinds.rejected,
            Refusal::MissingKey(fault) => self.kinds.missing_key(*fault),
            Refusal::Unavailable => &self.kinds.unavailable,
        };
        let mut response = kind.response(wire, refusal.decision(), wait);
        self.finish(refusal, wait, &mut response);
        let Some(on_refusal) = &self.on_refusal else { return response };
        let mut theirs = on_refusal(&RefusalContext { refusal, policy: &self.policy, wire, response: &response });
        self.finish(refusal, wait, &mut theirs);
        theirs
    }

    /// Adds what belongs to every refusal, unless it is there.
    fn finish(&self, refusal: &Refusal, wait: Option<Duration>, response: &mut Response<Bytes>) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let is_redirection = response.status().is_redirection();
        let Some(decision) = refusal.decision() else { return };
        response.extensions_mut().insert(*decision);
        // Of a redirection Retry-After would mean something else (RFC 9110 section 10.2.3).
        if is_redirection {
            return;
        }
        if let Some(wait) = wait {
            retry_after::raise(response.headers_mut(), retry_after::seconds(wait));
        }
        if let Some(fields) = &self.fields
            && let Some(standing) = fields.standing(decision)
        {
            fields.refused(&standing, response.headers_mut());
        }
    }

    /// A wait and up to the jitter more, never less.
    fn jittered(&self, wait: Duration) -> Duration {
        match self.jitter_ms {
            0 => wait,
            most => wait.saturating_add(Duration::from_millis(fastrand::u64(0..=most))),
        }
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

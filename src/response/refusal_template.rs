//! The kinds of refusals, each with its constant parts.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::details::Violation;
use super::grpc::{Code, Status};
use super::problem;
use super::protocol::WireFormat;
use super::quota_names::quota_names;
use super::refusal::RefusalBody;
use crate::decision::Decision;
use crate::key::Fault;
use crate::policy::Policy;

/// One template for each kind of refusal.
pub(super) struct RefusalTemplates {
    pub(super) rejected: Kind,
    pub(super) shed: Kind,
    no_client_key: Kind,
    no_server_key: Kind,
    pub(super) unavailable: Kind,
}

impl RefusalTemplates {
    pub(super) fn new(
        policy: &Policy,
        body: RefusalBody,
        message: Option<&str>,
        rejected: StatusCode,
        shed: StatusCode,
    ) -> Self {
        let limited = |status| Kind::limited(policy, body, message, status);
        let other = |status, code, message| Kind::other(body, status, code, message);
        Self {
            rejected: limited(rejected),
            shed: limited(shed),
            no_client_key: other(StatusCode::BAD_REQUEST, Code::InvalidArgument, "missing rate limit key"),
            no_server_key: other(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "rate limit key unavailable"),
            unavailable: other(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "the rate limiter is unavailable"),
        }
    }

    pub(super) fn missing_key(&self, fault: Fault) -> &Kind {
        match fault {
            Fault::Client => &self.no_client_key,
            Fault::Server | Fault::PeerAddress | Fault::ProxyHeader => &self.no_server_key,
        }
    }
}

pub(super) struct Kind {
    status: StatusCode,
    grpc: Status,
    content_type: Option<HeaderValue>,
    /// The configured message, if limits caused the refusal.
    detail: Option<Box<str>>,
    /// The body. If limits caused the refusal, there is one body per quota, for the case that only this quota has no
    /// room.
    bodies: Box<[Bytes]>,
    names: Box<[String]>,
    violations: Box<[Violation]>,
    is_problem: bool,
}

impl Kind {
    /// A refusal by a limit: RESOURCE_EXHAUSTED, or UNAVAILABLE if the caller is not at fault.
    fn limited(policy: &Policy, body: RefusalBody, message: Option<&str>, status: StatusCode) -> Self {
        let (code, default) = match status.is_server_error() {
            false => (Code::ResourceExhausted, "rate limit exceeded"),
            true => (Code::Unavailable, "overloaded"),
        };
        let names: Box<[String]> = quota_names(policy).collect();
        let violation = |(name, quota): (&String, &crate::quota::Quota)| {
            let (count, ms) = (quota.count(), quota.window_ms());
            let (window, unit) = if ms.is_multiple_of(1_000) { (ms / 1_000, "s") } else { (ms, "ms") };
            let description = format!("limit {count} per {window}{unit}");
            Violation { subject: format!("policy:{name}"), description }
        };
        let text = message.unwrap_or(default);
        let one = |name: &String| shared(&problem::violated(status, message, [name.as_str()].into_iter()));
        Self {
            bodies: match body {
                RefusalBody::Problem => names.iter().map(one).collect(),
                RefusalBody::Text => names.iter().map(|_| shared(text)).collect(),
                RefusalBody::Empty => names.iter().map(|_| Bytes::new()).collect(),
            },
            detail: message.map(Into::into),
            violations: names.iter().zip(policy.quotas()).map(violation).collect(),
            names,
            ..Self::new(body, status, Status::new(code, text))
        }
    }

    fn other(body: RefusalBody, status: StatusCode, code: Code, message: &str) -> Self {
        let body_of = match body {
            RefusalBody::Problem => shared(&problem::blank(status, message)),
            RefusalBody::Text => shared(message),
            RefusalBody::Empty => Bytes::new(),
        };
        Self { bodies: [body_of].into(), ..Self::new(body, status, Status::new(code, message)) }
    }

    fn new(body: RefusalBody, status: StatusCode, grpc: Status) -> Self {
        let content_type = match body {
            RefusalBody::Problem => Some(HeaderValue::from_static("application/problem+json")),
            RefusalBody::Text => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
            RefusalBody::Empty => None,
        };
        let is_problem = body == RefusalBody::Problem;
        let (bodies, names, violations) = (Box::default(), Box::default(), Box::default());
        Self { status, grpc, content_type, detail: None, bodies, names, violations, is_problem }
    }

    /// The response without the headers that every refusal has.
    pub(super) fn response(
        &self,
        wire: WireFormat,
        decision: Option<&Decision>,
        wait: Option<Duration>,
    ) -> Response<Bytes> {
        if wire.is_grpc() {
            // An overload violates no quota of the caller.
            let is_quota = self.grpc.code() == Code::ResourceExhausted;
            let violations = decision.map(|decision| {
                let violated = move |(index, _): &(usize, &Violation)| is_quota && self.is_violated(decision, *index);
                self.violations.iter().enumerate().filter(violated).map(|(_, violation)| violation)
            });
            return self.grpc.response(wire, wait, violations);
        }
        let mut response = Response::new(self.body(decision));
        *response.status_mut() = self.status;
        if let Some(content_type) = &self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        response
    }

    fn body(&self, decision: Option<&Decision>) -> Bytes {
        let violated = |index: &usize| decision.is_none_or(|decision| self.is_violated(decision, *index));
        let mut indices = (0..self.bodies.len()).filter(violated);
        match (indices.next(), indices.next()) {
            (Some(_), Some(_)) if self.is_problem => {
                let names = (0..self.names.len()).filter(violated).map(|index| self.names[index].as_str());
                problem::violated(self.status, self.detail.as_deref(), names).into()
            }
            (Some(index), _) => self.bodies[index].clone(),
            (None, _) => self.bodies.first().cloned().unwrap_or_default(),
        }
    }

    /// Whether the quota has no room. If the decision marks no quota, the one that its figures describe is meant.
    fn is_violated(&self, decision: &Decision, index: usize) -> bool {
        let is_named = (0..self.names.len()).any(|index| decision.is_exceeded(index));
        decision.is_exceeded(index) || (!is_named && index == decision.limit_index())
    }
}

/// Bytes whose clones never allocate, not even the first one.
fn shared(text: &str) -> Bytes {
    Bytes::from_owner(text.to_owned())
}

//! The constant parts of refusals.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::details::Violation;
use super::grpc::{self, Code};
use super::problem;
use super::protocol::WireFormat;
use super::quota_names::quota_names;
use super::refusal_body::RefusalBody;
use crate::decision::{Decision, Verdict};
use crate::policy::Policy;
use crate::quota::Quota;

/// The constant parts of a layer's refusals.
pub(super) struct RefusalTemplates {
    body: RefusalBody,
    /// The configured message.
    message: Option<Arc<str>>,
    names: Box<[String]>,
    violations: Box<[Violation]>,
    rejected: Template,
    /// `None` if a shed request gets the same response as a rejected one.
    shed: Option<Template>,
    /// Whether the refusals are those of a cap on requests in flight, for which no wait is known.
    is_cap: bool,
}

/// The detail of a problem without a wait.
const NEVER_FITS: &str = "the request exceeds the limit, so no wait helps";
/// The detail and the gRPC message of a refusal by a cap.
const IN_FLIGHT: &str = "too many requests in flight";

/// A limit that refused a request.
#[derive(Clone, Copy)]
pub(super) struct LimitedBy<'a> {
    pub(super) templates: &'a RefusalTemplates,
    pub(super) decision: &'a Decision,
}

impl<'a> LimitedBy<'a> {
    /// The names of the quotas without room.
    fn names(self) -> impl Iterator<Item = &'a str> {
        let names = self.templates.names.iter().enumerate();
        names.filter(move |(index, _)| self.templates.is_violated(self.decision, *index)).map(|(_, name)| name.as_str())
    }

    fn violations(self) -> impl Iterator<Item = &'a Violation> {
        let violations = self.templates.violations.iter().enumerate();
        let is_violated = move |(index, _): &(usize, &Violation)| self.templates.is_violated(self.decision, *index);
        violations.filter(is_violated).map(|(_, violation)| violation)
    }
}

/// The constant parts of the refusals by a limit, for one status.
struct Template {
    status: StatusCode,
    code: Code,
    message: Box<str>,
    encoded_message: HeaderValue,
    /// One body for each quota, for the case that only this quota has no room. Without problem details, it is one body
    /// for all quotas.
    bodies: Box<[Bytes]>,
}

/// Writes the status and the body of an HTTP refusal.
pub(super) fn write_http(status: StatusCode, form: RefusalBody, body: Bytes, response: &mut Response<Bytes>) {
    *response.status_mut() = status;
    *response.body_mut() = body;
    let content_type = match form {
        RefusalBody::Problem => const { HeaderValue::from_static("application/problem+json") },
        RefusalBody::Text => const { HeaderValue::from_static("text/plain; charset=utf-8") },
        RefusalBody::Empty => return,
    };
    response.headers_mut().insert(CONTENT_TYPE, content_type);
}

impl RefusalTemplates {
    pub(super) fn new(
        policy: &Policy,
        body: RefusalBody,
        message: Option<Arc<str>>,
        rejected: StatusCode,
        shed: StatusCode,
    ) -> Self {
        let names: Box<[String]> = quota_names(policy).collect();
        let violation = |(name, quota): (&String, &Quota)| {
            let (count, ms) = (quota.count(), quota.window_ms());
            let (window, unit) = if ms.is_multiple_of(1_000) { (ms / 1_000, "s") } else { (ms, "ms") };
            let description = format!("limit {count} per {window}{unit}");
            Violation { subject: format!("policy:{name}"), description }
        };
        let template = |status| Template::new(status, body, message.as_deref(), &names);
        Self {
            body,
            violations: names.iter().zip(policy.quotas()).map(violation).collect(),
            rejected: template(rejected),
            shed: (shed != rejected).then(|| template(shed)),
            names,
            message,
            is_cap: false,
        }
    }

    /// The refusals by a cap on requests in flight.
    pub(super) fn of_cap(policy: &Policy, body: RefusalBody, message: Option<Arc<str>>, status: StatusCode) -> Self {
        let message = message.unwrap_or_else(|| IN_FLIGHT.into());
        let violation = |quota: &Quota| Violation {
            subject: format!("policy:{}", policy.name()),
            description: format!("limit {} in flight", quota.count()),
        };
        Self {
            violations: policy.quotas().iter().map(violation).collect(),
            is_cap: true,
            ..Self::new(policy, body, Some(message), status, status)
        }
    }

    /// Writes the refusal of a decision, without the headers that every refusal has. `all` are the refusals by all
    /// limits of the request, or empty for one limit.
    pub(super) fn write(
        &self,
        decision: &Decision,
        all: &[LimitedBy<'_>],
        wire: WireFormat,
        wait: Option<Duration>,
        response: &mut Response<Bytes>,
    ) {
        let template = match (decision.verdict(), &self.shed) {
            (Verdict::Suppressed { .. }, Some(shed)) => shed,
            _ => &self.rejected,
        };
        if !wire.is_grpc() {
            return write_http(template.status, self.body, self.body(template, decision, all), response);
        }
        // An overload violates no quota of the caller.
        let is_quota = template.code == Code::ResourceExhausted;
        let this = [LimitedBy { templates: self, decision }];
        let all = if all.is_empty() { &this } else { all };
        let violations = all.iter().filter(|_| is_quota).flat_map(|by| by.violations());
        let headers = response.headers_mut();
        grpc::write_status(template.code, template.encoded_message.clone(), wire, headers);
        grpc::write_wait(template.code, &template.message, wait, violations, headers);
        if self.is_cap {
            // The client may try again, by its own policy.
            grpc::allow_retry(headers);
        }
    }

    fn body(&self, template: &Template, decision: &Decision, all: &[LimitedBy<'_>]) -> Bytes {
        let index = match self.marked(decision) {
            0 => decision.limit_index(),
            marked if marked.is_power_of_two() => marked.trailing_zeros() as usize,
            _ => usize::MAX,
        };
        // The decision has the longest wait of all.
        let is_special = all.len() > 1 || index == usize::MAX || (decision.never_fits() && !self.is_cap);
        if is_special && self.body == RefusalBody::Problem {
            return self.special_problem(template, decision, all);
        }
        template.bodies.get(index).or(template.bodies.first()).cloned().unwrap_or_default()
    }

    /// The problem of several quotas without room, or of a request for which no wait helps.
    #[cold]
    fn special_problem(&self, template: &Template, decision: &Decision, all: &[LimitedBy<'_>]) -> Bytes {
        let this = [LimitedBy { templates: self, decision }];
        let names = if all.is_empty() { &this } else { all }.iter().flat_map(|by| by.names());
        let detail = self.message.as_deref().or(decision.never_fits().then_some(NEVER_FITS));
        problem::violated(template.status, detail, names).into()
    }

    /// The quotas that a decision marks as violated, one bit each.
    fn marked(&self, decision: &Decision) -> u8 {
        let known = 1_u8.checked_shl(self.names.len() as u32).map_or(u8::MAX, |next| next - 1);
        decision.violated & known
    }

    /// Whether the quota has no room. If the decision marks no quota, the one that its figures describe is meant.
    fn is_violated(&self, decision: &Decision, index: usize) -> bool {
        match self.marked(decision) {
            0 => index == decision.limit_index(),
            _ => decision.is_exceeded(index),
        }
    }
}

impl Template {
    /// A refusal by a limit: RESOURCE_EXHAUSTED, or UNAVAILABLE if the caller is not at fault.
    fn new(status: StatusCode, body: RefusalBody, message: Option<&str>, names: &[String]) -> Self {
        let (code, default) = match status.is_server_error() {
            false => (Code::ResourceExhausted, "rate limit exceeded"),
            true => (Code::Unavailable, "overloaded"),
        };
        let text = message.unwrap_or(default);
        let problem = |name: &String| shared(problem::violated(status, message, [name.as_str()].into_iter()));
        let bodies = match body {
            RefusalBody::Problem => names.iter().map(problem).collect(),
            RefusalBody::Text => [shared(text.to_owned())].into(),
            RefusalBody::Empty => [].into(),
        };
        Self { status, code, message: text.into(), encoded_message: grpc::encoded(text), bodies }
    }
}

/// Bytes whose clones never allocate, not even the first one.
pub(super) fn shared(text: String) -> Bytes {
    Bytes::from_owner(text.into_bytes().into_boxed_slice())
}

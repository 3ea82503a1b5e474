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
use super::refusal::{Refusal, RefusalBody};
use crate::decision::{Decision, Verdict};
use crate::key::Fault;
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

/// The refusals for another reason than a limit.
struct Fixed {
    status: StatusCode,
    code: Code,
    message: &'static str,
    problem: &'static str,
}

const NO_CLIENT_KEY: Fixed = Fixed {
    status: StatusCode::BAD_REQUEST,
    code: Code::InvalidArgument,
    message: "missing rate limit key",
    problem: r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"missing rate limit key"}"#,
};
const NO_SERVER_KEY: Fixed = Fixed {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: Code::Internal,
    message: "rate limit key unavailable",
    problem: r#"{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"rate limit key unavailable"}"#,
};
const UNAVAILABLE: Fixed = Fixed {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: Code::Unavailable,
    message: "the rate limiter is unavailable",
    problem: r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the rate limiter is unavailable"}"#,
};

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
        }
    }

    /// Writes the response without the headers that every refusal has.
    pub(super) fn write(
        &self,
        refusal: Refusal<'_>,
        wire: WireFormat,
        wait: Option<Duration>,
        response: &mut Response<Bytes>,
    ) {
        let fixed = match refusal {
            Refusal::Limited(decision) => return self.write_limited(decision, wire, wait, response),
            Refusal::MissingKey(Fault::Client) => &NO_CLIENT_KEY,
            Refusal::MissingKey(Fault::Server | Fault::PeerAddress | Fault::ProxyHeader) => &NO_SERVER_KEY,
            Refusal::Unavailable => &UNAVAILABLE,
        };
        if wire.is_grpc() {
            let message = HeaderValue::from_static(fixed.message);
            return grpc::write_status(fixed.code, message, wire, response.headers_mut());
        }
        let body = match self.body {
            RefusalBody::Problem => fixed.problem,
            RefusalBody::Text => fixed.message,
            RefusalBody::Empty => "",
        };
        self.write_http(fixed.status, Bytes::from_static(body.as_bytes()), response);
    }

    fn write_limited(
        &self,
        decision: &Decision,
        wire: WireFormat,
        wait: Option<Duration>,
        response: &mut Response<Bytes>,
    ) {
        let template = match (decision.verdict(), &self.shed) {
            (Verdict::Suppressed { .. }, Some(shed)) => shed,
            _ => &self.rejected,
        };
        if !wire.is_grpc() {
            return self.write_http(template.status, self.body(template, decision), response);
        }
        // An overload violates no quota of the caller.
        let is_quota = template.code == Code::ResourceExhausted;
        let is_violated = |(index, _): &(usize, &Violation)| is_quota && self.is_violated(decision, *index);
        let violations = self.violations.iter().enumerate().filter(is_violated).map(|(_, violation)| violation);
        let headers = response.headers_mut();
        grpc::write_status(template.code, template.encoded_message.clone(), wire, headers);
        grpc::write_wait(template.code, &template.message, wait, violations, headers);
    }

    fn write_http(&self, status: StatusCode, body: Bytes, response: &mut Response<Bytes>) {
        *response.status_mut() = status;
        *response.body_mut() = body;
        let content_type = match self.body {
            RefusalBody::Problem => const { HeaderValue::from_static("application/problem+json") },
            RefusalBody::Text => const { HeaderValue::from_static("text/plain; charset=utf-8") },
            RefusalBody::Empty => return,
        };
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }

    fn body(&self, template: &Template, decision: &Decision) -> Bytes {
        let marked = self.marked(decision);
        let index = match marked.count_ones() {
            0 => decision.limit_index(),
            1 => marked.trailing_zeros() as usize,
            _ if self.body == RefusalBody::Problem => {
                let names = self.names.iter().enumerate().filter(|(index, _)| self.is_violated(decision, *index));
                let names = names.map(|(_, name)| name.as_str());
                return problem::violated(template.status, self.message.as_deref(), names).into();
            }
            _ => 0,
        };
        template.bodies.get(index).or(template.bodies.first()).cloned().unwrap_or_default()
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
fn shared(text: String) -> Bytes {
    Bytes::from_owner(text.into_bytes().into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_constant_problems_state_what_is_sent() {
        for Fixed { status, message, problem, .. } in [NO_CLIENT_KEY, NO_SERVER_KEY, UNAVAILABLE] {
            let title = status.canonical_reason();
            let want = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": message});
            assert_eq!(serde_json::from_str::<Value>(problem).unwrap(), want);
        }
    }
}

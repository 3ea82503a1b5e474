//! The responses of a layer: refusals, and the headers of an admitted response.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::fixed_refusal::{Denied, Fixed, UNAVAILABLE};
use super::headers::{self, Fields, RateLimitHeaders};
use super::protocol::{Protocol, WireFormat};
use super::refusal::{Judged, Limited, OnRefusal, Refusal, RefusalContext};
use super::refusal_body::RefusalBody;
use super::refusal_template::{LimitedBy, RefusalTemplates};
use super::rendered::Rendered;
use super::{grpc, retry_after};
use crate::decision::{Decision, Verdict};
use crate::error::ConfigError;
use crate::key::RequestView;
use crate::policy::Policy;
use crate::time::millis;

/// The configured form of a layer's responses.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) body: RefusalBody,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) headers: RateLimitHeaders,
    /// Families in addition to `headers`.
    pub(crate) also_headers: Vec<RateLimitHeaders>,
    pub(crate) jitter: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) on_refusal: Option<Arc<OnRefusal>>,
}

/// The responses of a layer.
#[derive(Clone)]
pub(crate) struct Responder {
    options: Options,
    rejected: StatusCode,
    shed: Option<StatusCode>,
    /// `None` if the layer denies no request.
    denied: Option<Denied>,
    jitter_ms: u64,
}

impl Responder {
    /// `rejected` and `shed` are the statuses of the two strategies' refusals, and `denied` is that of the deny list.
    pub(crate) fn new(
        options: Options,
        rejected: StatusCode,
        shed: Option<StatusCode>,
        denied: Option<StatusCode>,
    ) -> Self {
        let denied = denied.map(|status| Denied::new(status, options.body));
        Self { jitter_ms: millis(options.jitter), options, rejected, shed, denied }
    }

    /// Renders the parts of a limit's responses that never change. `is_global` states that all clients share its keys.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidPolicyName`], [`ConfigError::HeadersConflict`] or
    /// [`ConfigError::AnswerTooLarge`].
    pub(crate) fn render(&self, policy: Policy, is_global: bool) -> Result<Rendered, ConfigError> {
        headers::check_name(policy.name())?;
        let Options { body, message, headers, also_headers, .. } = &self.options;
        let shed = self.shed.unwrap_or(match is_global {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::TOO_MANY_REQUESTS,
        });
        let rendered = Rendered {
            templates: RefusalTemplates::new(&policy, *body, message.clone(), self.rejected, shed),
            fields: Fields::new(*headers, also_headers, &policy)?,
            policy,
            is_ban: false,
            is_cap: false,
        };
        self.check_size(&rendered)?;
        Ok(rendered)
    }

    /// Does the same for a ban.
    pub(crate) fn render_ban(&self, policy: Policy) -> Result<Rendered, ConfigError> {
        Ok(Rendered { is_ban: true, ..self.render(policy, false)? })
    }

    /// Does the same for a cap on requests in flight. It has no fields, because these describe windows.
    pub(crate) fn render_cap(&self, policy: Policy) -> Result<Rendered, ConfigError> {
        let Options { body, message, .. } = &self.options;
        let templates = RefusalTemplates::of_cap(&policy, *body, message.clone(), self.rejected);
        Ok(Rendered { templates, fields: None, is_cap: true, ..self.render(policy, false)? })
    }

    /// gRPC clients refuse header lists above a size (8 kB with some defaults), and then lose the status.
    fn check_size(&self, limit: &Rendered) -> Result<(), ConfigError> {
        let wires = match self.options.protocol {
            Protocol::Http => &[WireFormat::Http][..],
            Protocol::Auto | Protocol::Grpc => &[WireFormat::Http, WireFormat::Grpc],
        };
        // This is the longest refusal: every quota refuses, and every number has the maximum number of digits.
        let rejected = Decision { violated: u8::MAX, ..Decision::rejected(u64::MAX, u64::MAX, Some(LONGEST_WAIT)) };
        let shed = Decision { verdict: Verdict::Suppressed { is_allowed: false }, ..rejected };
        for (wire, decision) in wires.iter().flat_map(|wire| [(*wire, &rejected), (*wire, &shed)]) {
            let mut response = Response::default();
            let limited = Limited { by: Judged { limit, decision }, all: &[] };
            self.write(Refusal::Limited(limited), wire, Some(LONGEST_WAIT), &mut response);
            // The size as HTTP/2 counts it (RFC 9113 section 10.5.1).
            let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
            let bytes = response.headers().iter().map(size).sum();
            if bytes > MOST_HEADER_BYTES {
                return Err(ConfigError::AnswerTooLarge { bytes, most: MOST_HEADER_BYTES });
            }
        }
        Ok(())
    }

    /// The headers for the response to an admitted request, or `None` if there are none.
    #[inline]
    pub(crate) fn admitted(limit: &Rendered, decision: &Decision) -> Option<HeadersToAdd> {
        let wait_ms = if decision.retry_after_ms == u64::MAX { 0 } else { decision.retry_after_ms };
        let is_needed = limit.fields.is_some() || wait_ms > 0;
        let (limit_index, remaining) = (decision.limit_index, decision.remaining());
        is_needed.then_some(HeadersToAdd { wait_ms, limit_index, remaining })
    }

    /// Adds the headers, except to a redirect: a client would wait before it follows the redirect.
    pub(crate) fn add(limit: &Rendered, to_add: &HeadersToAdd, status: StatusCode, headers: &mut HeaderMap) {
        if is_redirect(status) {
            return;
        }
        let HeadersToAdd { wait_ms, limit_index, remaining } = *to_add;
        let wait = (wait_ms > 0).then_some(Duration::from_millis(wait_ms));
        if let Some(fields) = &limit.fields {
            fields.admitted(limit_index, remaining, wait, headers);
        }
        // The response may be a refusal with a wait. After that wait, this limit must have room too.
        if let Some(wait) = wait {
            if retry_after::is_set(headers) {
                retry_after::raise(headers, retry_after::seconds(wait));
            }
            grpc::raise(headers, wait);
        }
    }

    /// The response to a refused request. It takes headers and extensions out of the request. `policy` is the layer's
    /// first limit.
    pub(crate) fn refuse(&self, refusal: Refusal<'_>, policy: &Policy, request: &mut Parts) -> Response<Bytes> {
        let wire = WireFormat::of(self.options.protocol, &RequestView::from(&*request));
        let wait = refusal.limited().and_then(|limited| limited.by.decision.retry_after());
        let wait = wait.map(|wait| self.jittered(wait));
        let mut response = Response::new(Bytes::new());
        let Some(on_refusal) = &self.options.on_refusal else {
            reuse(request, &mut response);
            self.write(refusal, wire, wait, &mut response);
            return response;
        };
        self.write(refusal, wire, wait, &mut response);
        let request = RequestView::from(&*request);
        let mut custom = on_refusal(&RefusalContext { refusal, policy, wire, request, response: &response });
        Self::finish(refusal, wait, &mut custom);
        custom
    }

    fn write(&self, refusal: Refusal<'_>, wire: WireFormat, wait: Option<Duration>, response: &mut Response<Bytes>) {
        match refusal {
            Refusal::Limited(Limited { by: Judged { limit, decision }, all }) => {
                let refusing = all.iter().filter(|judged| !judged.decision.is_allowed());
                let refusing: Vec<LimitedBy<'_>> = refusing
                    .map(|judged| LimitedBy { templates: &judged.limit.templates, decision: judged.decision })
                    .collect();
                limit.templates.write(decision, &refusing, wire, wait, response);
            }
            Refusal::MissingKey(fault) => Fixed::missing_key(fault).write(self.options.body, wire, response),
            Refusal::Denied => {
                if let Some(denied) = &self.denied {
                    denied.write(self.options.body, wire, response);
                }
            }
            Refusal::Unavailable => UNAVAILABLE.write(self.options.body, wire, response),
        }
        Self::finish(refusal, wait, response);
    }

    /// Adds the headers that every refusal has, unless they are present.
    fn finish(refusal: Refusal<'_>, wait: Option<Duration>, response: &mut Response<Bytes>) {
        response.headers_mut().insert(CACHE_CONTROL, const { HeaderValue::from_static("no-store") });
        let Some(limited) = refusal.limited() else { return };
        response.extensions_mut().insert(*limited.by.decision);
        // On a redirect, Retry-After has another meaning (RFC 9110 section 10.2.3).
        if is_redirect(response.status()) {
            return;
        }
        if let Some(wait) = wait {
            retry_after::raise(response.headers_mut(), retry_after::seconds(wait));
        }
        let has_fields = limited.by.limit.fields.is_some() || limited.by.limit.is_cap;
        if !has_fields || headers::are_set(response.headers()) {
            return;
        }
        for Judged { limit, decision } in limited.each() {
            let Some(fields) = &limit.fields else { continue };
            // The jitter is a part of the wait of the limit that the client waits for.
            let own_wait = || decision.retry_after().filter(|wait| !wait.is_zero());
            let wait = if std::ptr::eq(decision, limited.by.decision) { wait } else { own_wait() };
            match decision.is_allowed() {
                true => fields.admitted(decision.limit_index(), decision.remaining(), None, response.headers_mut()),
                false => fields.refused(decision, wait, response.headers_mut()),
            }
        }
    }

    /// The wait plus a random part of the jitter. It is never shorter than the wait.
    fn jittered(&self, wait: Duration) -> Duration {
        match self.jitter_ms {
            0 => wait,
            most => wait.saturating_add(Duration::from_millis(fastrand::u64(0..=most))),
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("protocol", &self.options.protocol).finish_non_exhaustive()
    }
}

/// The headers for the response to an admitted request.
#[derive(Debug)]
pub(crate) struct HeadersToAdd {
    /// The time until this limit has room for another such request, or 0 if it has room now or never.
    wait_ms: u64,
    limit_index: usize,
    remaining: u64,
}

/// The longest wait that a gRPC duration can hold: 10 000 years.
const LONGEST_WAIT: Duration = Duration::from_secs(315_576_000_000);

/// gRPC's C core refuses header lists above 8 kB at random, and all header lists above 16 kB.
const MOST_HEADER_BYTES: usize = 8_192;

/// The most headers of a request whose memory a refusal takes over. An idle connection may keep that memory.
const MOST_REUSED_HEADERS: usize = 32;

/// Gives an empty response the memory of a request's headers and extensions, which saves up to four allocations.
#[inline]
fn reuse(request: &mut Parts, response: &mut Response<Bytes>) {
    if request.headers.capacity() <= MOST_REUSED_HEADERS {
        request.headers.clear();
        std::mem::swap(response.headers_mut(), &mut request.headers);
    }
    request.extensions.clear();
    std::mem::swap(response.extensions_mut(), &mut request.extensions);
}

/// Whether a client follows the response to another URL. A 304 is a final response.
fn is_redirect(status: StatusCode) -> bool {
    status.is_redirection() && status != StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::strategy::Strategy;

    fn refused(request: http::request::Builder) -> Response<Bytes> {
        let policy = Policy::new("a", ["10/min".parse().unwrap()], Strategy::Absolute);
        let responder = Responder::new(Options::default(), StatusCode::TOO_MANY_REQUESTS, None, None);
        let limit = responder.render(policy, false).unwrap();
        let decision = Decision::rejected(10, 10, Some(Duration::from_secs(1)));
        let limited = Limited { by: Judged { limit: &limit, decision: &decision }, all: &[] };
        responder.refuse(Refusal::Limited(limited), limit.policy(), &mut request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_refusal_contains_nothing_of_its_request() {
        let request = http::Request::builder().header("cookie", "secret").header("cookie", "secret").extension(7_u8);
        let response = refused(request);
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "cache-control", "retry-after"]);
        assert_eq!((response.extensions().len(), response.extensions().get::<u8>()), (1, None));
    }

    #[test]
    fn a_refusal_does_not_keep_the_memory_of_many_headers() {
        let with_headers = |n| (0..n).fold(http::Request::builder(), |it, n| it.header(format!("x-{n}"), "1"));
        assert!((6..=MOST_REUSED_HEADERS).contains(&refused(with_headers(20)).headers().capacity()));
        assert_eq!(refused(with_headers(100)).headers().capacity(), refused(with_headers(0)).headers().capacity());
    }

    fn limit(responder: &Responder, name: &str, quota: &str) -> Rendered {
        responder.render(Policy::new(name, [quota.parse().unwrap()], Strategy::Absolute), false).unwrap()
    }

    fn lines(response: &Response<Bytes>, name: &str) -> Vec<String> {
        response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_fields_of_a_custom_response_stay() {
        let custom =
            |_: &RefusalContext<'_>| Response::builder().header("ratelimit", "\"own\";r=7").body(Bytes::new()).unwrap();
        let options =
            Options { headers: RateLimitHeaders::Draft8, on_refusal: Some(Arc::new(custom)), ..Options::default() };
        let responder = Responder::new(options, StatusCode::TOO_MANY_REQUESTS, None, None);
        let limit = limit(&responder, "a", "10/min");
        let decision = Decision::rejected(10, 10, Some(Duration::from_secs(1)));
        let limited = Limited { by: Judged { limit: &limit, decision: &decision }, all: &[] };
        let mut request = http::Request::new(()).into_parts().0;
        let response = responder.refuse(Refusal::Limited(limited), limit.policy(), &mut request);
        assert_eq!(lines(&response, "ratelimit"), ["\"own\";r=7"]);
    }

    /// Two limits refuse, and the third has room.
    #[test]
    fn a_refusal_by_several_limits_names_all_of_them() {
        let options = Options { headers: RateLimitHeaders::Draft8, ..Options::default() };
        let responder = Responder::new(options, StatusCode::TOO_MANY_REQUESTS, None, None);
        let limits = [("client", "10/min"), ("tenant", "100/h"), ("service", "1000/s")]
            .map(|(name, quota)| limit(&responder, name, quota));
        let wait = |secs| Some(Duration::from_secs(secs));
        let decisions =
            [Decision::rejected(10, 10, wait(7)), Decision::rejected(100, 100, wait(90)), Decision::allowed(1_000, 4)];
        let judged = |at: usize| Judged { limit: &limits[at], decision: &decisions[at] };
        let limited = Limited { by: judged(1), all: &[judged(1), judged(0), judged(2)] };
        let mut request = http::Request::new(()).into_parts().0;
        let response = responder.refuse(Refusal::Limited(limited), limits[0].policy(), &mut request);
        assert_eq!(lines(&response, "retry-after"), ["90"]);
        assert_eq!(
            lines(&response, "ratelimit"),
            ["\"tenant\";r=0;t=90", "\"client\";r=0;t=7", "\"service\";r=996;t=1"]
        );
        assert_eq!(
            lines(&response, "ratelimit-policy"),
            ["\"tenant\";q=100;w=3600", "\"client\";q=10;w=60", "\"service\";q=1000;w=1"]
        );
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["violated-policies"], serde_json::json!(["tenant", "client"]));
    }

    /// Tests with and without header fields, because the wait of stacked layers does not depend on them.
    #[test]
    fn an_inner_retry_after_includes_the_wait_of_this_layer() {
        let full = Decision { retry_after_ms: 30_000, ..Decision::allowed(10, 10) };
        let soon = httpdate::fmt_http_date(std::time::SystemTime::now());
        let ok = StatusCode::TOO_MANY_REQUESTS;
        for headers in [RateLimitHeaders::None, RateLimitHeaders::Draft8] {
            let policy = Policy::new("a", ["10/min".parse().unwrap()], Strategy::Absolute);
            let options = Options { headers, ..Options::default() };
            let limit = Responder::new(options, ok, None, None).render(policy, false).unwrap();
            for (before, decision, status, want) in [
                (Some("5"), full, ok, Some("30")),
                (Some("31"), full, ok, Some("31")),
                (Some("5"), Decision::allowed(10, 9), ok, Some("5")),
                (Some(soon.as_str()), full, ok, Some("30")),
                (Some("soon"), full, ok, Some("soon")),
                (None, full, ok, None),
                (Some("5"), full, StatusCode::FOUND, Some("5")),
            ] {
                let mut map = HeaderMap::new();
                map.extend(before.map(|it| (RETRY_AFTER, it.parse().unwrap())));
                if let Some(to_add) = Responder::admitted(&limit, &decision) {
                    Responder::add(&limit, &to_add, status, &mut map);
                }
                assert_eq!(map.get(RETRY_AFTER).map(|value| value.to_str().unwrap()), want, "{before:?}");
            }
        }
    }
}

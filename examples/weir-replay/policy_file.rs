//! A whole policy from a file: requests pass through the layer that a service would have.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::http;
use http::{HeaderName, Request, Response};
use tower::{Layer as _, Service};
use tower_weir::layer::{LimitMode, RateLimitHandle};
use tower_weir::response::RefusalReason;
use tower_weir::{ConfigError, ManualClock, Quota, Quotas, RateLimitConfig, RateLimitLayer};

use crate::format::socket;
use crate::key::{Part, Parts, split};
use crate::limit::{Engine, seed};
use crate::routes;
use crate::tally::{Answer, Buckets, Tally};
use crate::trace::{Column, Trace};

/// A policy for a layer.
#[derive(Clone, Debug)]
pub(crate) struct PolicyFile {
    pub(crate) path: String,
    pub(crate) config: RateLimitConfig,
    /// The headers of the requests: the names of the extra fields.
    pub(crate) headers: Vec<HeaderName>,
}

/// What the service behind the layer and the handler of refusals saw of a request.
#[derive(Debug, Default)]
struct Seen {
    is_admitted: bool,
    /// The reasons for a refusal, and the limits in shadow that would have refused.
    reasons: Vec<String>,
    is_overflow: bool,
}

type Shared = Arc<Mutex<Seen>>;

/// The service behind the layer.
#[derive(Clone, Debug)]
struct Behind(Shared);

impl PolicyFile {
    /// Reads a policy: TOML, JSON, or the table that a layer prints.
    ///
    /// # Errors
    ///
    /// Returns a message for the user.
    pub(crate) fn read(path: &str, headers: Vec<HeaderName>) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let config: Result<RateLimitConfig, Box<dyn Error>> = match path.rsplit_once('.').map(|(_, end)| end) {
            Some("toml") => toml::from_str(&text).map_err(Into::into),
            Some("json") => serde_json::from_str(&text).map_err(Into::into),
            _ => text.parse().map_err(Into::into),
        };
        let config = config.map_err(|error| format!("{path}: {error}"))?;
        let policy = Self { path: path.to_owned(), config, headers };
        let layer = policy.layer(&ManualClock::new(), Engine::default(), &Shared::default());
        layer.map_err(|error| format!("{path}: {error}"))?;
        routes::check(&routes::templates(&policy.config)).map_err(|error| format!("{path}: {error}"))?;
        Ok(policy)
    }

    /// The fields that a request is made of.
    pub(crate) fn request_parts(&self) -> Parts {
        [Part::Address, Part::Method, Part::Path].into_iter().chain((0..self.headers.len()).map(Part::Extra)).collect()
    }

    /// The same policy with this percentage of all quotas, rounded, and at least 1.
    pub(crate) fn scaled(&self, percent: u64) -> Result<Self, ConfigError> {
        let mut scaled = self.clone();
        for limit in &mut scaled.config.limits {
            let quotas = std::iter::once(&mut limit.quotas).chain(limit.routes.iter_mut().map(|(_, quotas)| quotas));
            for quotas in quotas.filter(|quotas| !quotas.is_unlimited()) {
                let changed: Result<Vec<Quota>, _> =
                    quotas.as_slice().iter().map(|quota| of_quota(quota, percent)).collect();
                *quotas = Quotas::from(changed?);
            }
        }
        Ok(scaled)
    }

    /// Sends each request through the layer.
    pub(crate) fn replay(
        &self,
        trace: &Trace,
        clients: &Column,
        requests: &Column,
        engine: Engine,
    ) -> Result<Tally, Box<dyn Error>> {
        let Some(span) = trace.span() else { return Ok(Tally::new(Buckets::of((0, 0)), clients)) };
        let (clock, seen) = (ManualClock::new(), Shared::default());
        let layer = self.layer(&clock, engine, &seen)?;
        let mut tally = Tally::new(Buckets::of(span), clients);
        let mut run = Run { policy: self, trace, clients, requests, clock: &clock, seen: &seen, tally: &mut tally };
        let behind = Behind(Arc::clone(&seen));
        // Routes may be templates, and it takes a router to match them.
        match routes::templates(&self.config) {
            templates if templates.is_empty() => run.send_all(layer.layer(behind)),
            templates => run.send_all(routes::router(&templates, &behind).layer(layer)),
        }
        Ok(tally)
    }

    fn layer(&self, clock: &ManualClock, engine: Engine, seen: &Shared) -> Result<RateLimitLayer, ConfigError> {
        let seen = Arc::clone(seen);
        RateLimitLayer::builder()
            .limiter(engine.limiter(clock)?.local())
            .handle(self.config.limits.iter().any(|limit| limit.mode != LimitMode::Enforce))
            .on_refusal(move |refusal| {
                let reason = match refusal.reason() {
                    RefusalReason::Limited => format!("Refused by limit {}", refusal.policy().name()),
                    RefusalReason::ExceedsLimit => format!("Refused for ever by limit {}", refusal.policy().name()),
                    RefusalReason::Banned => format!("Refused by the ban of limit {}", refusal.policy().name()),
                    RefusalReason::MissingKey => "Refused without a key, such as a client's address".into(),
                    RefusalReason::Denied => "Refused by the deny list".into(),
                    _ => "Refused for another reason".into(),
                };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.reasons.push(reason);
                seen.is_overflow = refusal.decision().is_some_and(tower_weir::Decision::is_overflow);
                refusal.response().clone()
            })
            .config(self.config.clone())
            .build()
    }
}

/// A percentage of a quota. A quota that blocks stays one.
fn of_quota(quota: &Quota, percent: u64) -> Result<Quota, ConfigError> {
    match quota.count() {
        0 => Ok(*quota),
        count => Quota::new((count.saturating_mul(percent) / 100).clamp(1, 1 << 39), quota.window()),
    }
}

impl Service<Request<Body>> for Behind {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_admitted = true;
        if let Some(limits) = request.extensions().get::<RateLimitHandle>() {
            for limit in limits.limits() {
                let is_refused = limit.decision.is_some_and(|decision| !decision.is_allowed());
                if is_refused && !limit.is_enforced {
                    seen.reasons.push(format!("Admitted, although limit {} in shadow is exceeded", limit.name));
                }
            }
        }
        ready(Ok(Response::new(Body::empty())))
    }
}

/// A replay of all requests.
struct Run<'a> {
    policy: &'a PolicyFile,
    trace: &'a Trace,
    clients: &'a Column,
    requests: &'a Column,
    clock: &'a ManualClock,
    seen: &'a Shared,
    tally: &'a mut Tally,
}

impl Run<'_> {
    fn send_all<S: Service<Request<Body>>>(&mut self, mut service: S) {
        let start = self.trace.times[0];
        let mut context = Context::from_waker(Waker::noop());
        for (at, (time, id)) in self.trace.times.iter().zip(&self.requests.ids).enumerate() {
            self.clock.set_ms(time - start);
            fastrand::seed(seed(at));
            let Some(request) = self.policy.request(self.requests, *id) else {
                self.tally.not_http += 1;
                continue;
            };
            let is_ready = matches!(service.poll_ready(&mut context), Poll::Ready(Ok(())));
            assert!(
                is_ready && pin!(service.call(request)).poll(&mut context).is_ready(),
                "a local limit does not wait"
            );
            let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
            let answer = if seen.is_admitted { Answer::Admitted } else { Answer::Refused };
            self.tally.count(self.trace, self.clients, at, answer);
            self.tally.overflow += u64::from(seen.is_overflow);
            for reason in seen.reasons {
                *self.tally.reasons.entry(reason).or_default() += 1;
            }
        }
    }
}

impl PolicyFile {
    /// The request with a number, or `None` if a server would not pass it on.
    fn request(&self, requests: &Column, id: u32) -> Option<Request<Body>> {
        let fields = split(&requests.parts, requests.keys.key(id));
        let [address, method, path, headers @ ..] = &fields[..] else { return None };
        let mut request = Request::builder().method(*method).uri(*path);
        for (name, value) in self.headers.iter().zip(headers).filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, *value);
        }
        let mut request = request.body(Body::empty()).ok()?;
        if let Some(peer) = socket(address) {
            request.extensions_mut().insert(peer);
        }
        Some(request)
    }
}

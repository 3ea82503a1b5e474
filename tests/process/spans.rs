//! What the feature `tracing` adds to spans, and the events that it writes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service as _, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::LimitMode;
use tower_weir::{Global, Limit, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};
use tracing::field::{Empty, Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use crate::alloc::layer::{Trivial, send};
use crate::support::http::block_on;

type Fields = BTreeMap<String, String>;

/// Keeps the fields of the only span, and of each event.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    span: Fields,
    events: Vec<Fields>,
}

impl Kept {
    /// Runs with the usual registry.
    fn listen<T>(&self, run: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(Registry::default().with(self.clone()), run)
    }
}

impl<S: Subscriber> Layer<S> for Kept {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        span.record(&mut Into(&mut self.0.lock().unwrap().span));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut Into(&mut self.0.lock().unwrap().span));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::from([("target".to_owned(), event.metadata().target().to_owned())]);
        event.record(&mut Into(&mut fields));
        self.0.lock().unwrap().events.push(fields);
    }
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Sends requests of one client, within one span.
fn run(requests: usize, set: impl FnOnce(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> (Fields, Vec<Fields>) {
    let kept = Kept::default();
    kept.listen(|| {
        let limiter = RateLimiter::builder().clock(ManualClock::new()).max_keys(1).build().unwrap();
        let mut service = set(RateLimitLayer::builder().limiter(limiter.local())).build().unwrap().layer(Trivial);
        let span = info_span!(
            "request",
            rate_limit.policy = Empty,
            rate_limit.decision = Empty,
            rate_limit.reason = Empty,
            rate_limit.mode = Empty
        );
        let _entered = span.enter();
        for _ in 0..requests {
            send(&mut service, Request::get("/").header("x-client", "a secret").body(()).unwrap());
        }
    });
    let mut seen = kept.0.lock().unwrap();
    (std::mem::take(&mut seen.span), std::mem::take(&mut seen.events))
}

fn client(quota: &str) -> Limit {
    Limit::per(Header::new("x-client")).quota(quota).name("client")
}

fn service(quota: &str) -> Limit {
    Limit::per(Global).quota(quota).name("service")
}

/// The four values in the order policy, decision, reason and mode.
fn values(fields: &Fields) -> [&str; 4] {
    ["policy", "decision", "reason", "mode"]
        .map(|name| fields.get(&format!("rate_limit.{name}")).map_or("(none)", String::as_str))
}

type Case = fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder;

#[test]
fn the_current_span_gets_the_decision_that_matters_most() {
    let cases: [(Case, [&str; 4]); 8] = [
        (|layer| layer.limit(client("100/h")), ["client", "admitted", "within_limit", "enforce"]),
        (|layer| layer.limit(client("2/h")), ["client", "admitted", "near_limit", "enforce"]),
        (|layer| layer.limit(client("1/h")), ["client", "refused", "over_limit", "enforce"]),
        (|layer| layer.limit(client("1/h").shadow()), ["client", "would_refuse", "over_limit", "shadow"]),
        (
            |layer| layer.limit(client("100/h")).limit(service("1/h").shadow()),
            ["service", "would_refuse", "over_limit", "shadow"],
        ),
        (
            |layer| layer.limit(client("1/h").shadow()).limit(service("1/h")),
            ["service", "refused", "over_limit", "enforce"],
        ),
        (|layer| layer.limit(client("1/h")).deny(|_| true), ["", "refused", "denied", "enforce"]),
        (|layer| layer.limit(client("1/h")).exempt_paths(["/"]), ["", "admitted", "exempt", "enforce"]),
    ];
    for (at, (set, expected)) in cases.into_iter().enumerate() {
        let (span, _) = run(2, set);
        assert_eq!(values(&span), expected, "case {at}");
    }
}

/// A span of the application without the fields stays as it is, and costs no more than a look at its metadata.
#[test]
fn a_span_without_the_fields_gets_none() {
    let kept = Kept::default();
    kept.listen(|| {
        let mut service = RateLimitLayer::builder().limit(client("1/h")).build().unwrap().layer(Trivial);
        let _entered = info_span!("request", path = "/").entered();
        send(&mut service, Request::get("/").header("x-client", "a").body(()).unwrap());
    });
    let seen = kept.0.lock().unwrap();
    assert_eq!(seen.span.keys().collect::<Vec<_>>(), ["path"]);
}

#[test]
fn a_thousand_refusals_write_an_event_a_second_and_none_shows_the_key() {
    let began = Instant::now();
    let (span, events) = run(1_001, |layer| layer.limit(client("1/h")).limit(service("1/h").shadow()));
    let most = 1 + began.elapsed().as_secs() as usize;
    for (policy, expected) in [
        ("client", ["client", "refused", "over_limit", "enforce"]),
        ("service", ["service", "would_refuse", "over_limit", "shadow"]),
    ] {
        let of_policy: Vec<_> = events.iter().filter(|event| values(event)[0] == policy).collect();
        assert!((1..=most).contains(&of_policy.len()), "{events:#?}");
        assert_eq!((values(of_policy[0]), &*of_policy[0]["refusals"]), (expected, "1"));
        let counted: usize = of_policy.iter().map(|event| event["refusals"].parse::<usize>().unwrap()).sum();
        assert!(counted <= 1_000);
        assert!(of_policy.iter().all(|event| event["target"] == "tower_weir::limit"));
    }
    assert!(!format!("{span:?}{events:?}").contains("secret"));
}

#[test]
fn responses_that_a_meter_ends_write_an_event_a_second() {
    let (kept, began) = (Kept::default(), Instant::now());
    kept.listen(|| {
        let layer = RateLimitLayer::builder().limit(client("1/h").meter_bytes()).build().unwrap();
        let mut hello = layer.layer(service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello")))))
        }));
        for client in 0..100 {
            let request = Request::get("/").header("x-client", format!("{client}")).body(()).unwrap();
            let response = hello.call(request).now_or_never().unwrap().unwrap();
            assert!(block_on(response.into_body().collect()).is_err());
        }
    });
    let seen = kept.0.lock().unwrap();
    let cuts: Vec<_> = seen.events.iter().filter(|event| event.contains_key("responses")).collect();
    assert!((1..=1 + began.elapsed().as_secs() as usize).contains(&cuts.len()), "{:#?}", seen.events);
    assert_eq!((values(cuts[0])[0], &*cuts[0]["responses"]), ("client", "1"));
}

#[test]
fn a_new_mode_writes_one_event() {
    let kept = Kept::default();
    kept.listen(|| {
        let layer = RateLimitLayer::builder().limit(client("1/h")).build().unwrap();
        let limit = layer.control().limit("client").unwrap();
        (0..3).for_each(|_| limit.shadow());
        limit.set_mode(LimitMode::EnforceFor(5.0)).unwrap();
    });
    let seen = kept.0.lock().unwrap();
    let modes: Vec<&str> = seen.events.iter().map(|event| &*event["mode"]).collect();
    assert_eq!(modes, ["shadow", "enforce for 5%"], "{:#?}", seen.events);
    assert!(seen.events.iter().all(|event| values(event)[0] == "client"));
}

#[test]
fn an_overflow_writes_one_event_when_it_begins() {
    let kept = Kept::default();
    kept.listen(|| {
        let limiter = RateLimiter::builder().clock(ManualClock::new()).max_keys(1).build().unwrap();
        let layer = RateLimitLayer::builder().limit(client("1/h")).limiter(limiter.local()).build().unwrap();
        let mut service = layer.layer(Trivial);
        for key in 0..100 {
            send(&mut service, Request::get("/").header("x-client", format!("{key}")).body(()).unwrap());
        }
    });
    let seen = kept.0.lock().unwrap();
    let began = |event: &&Fields| event["message"].starts_with("overflow began") && values(event)[0] == "client";
    assert_eq!(seen.events.iter().filter(began).count(), 1, "{:#?}", seen.events);
}

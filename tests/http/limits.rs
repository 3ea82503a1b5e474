//! The limits of a layer: several at once, tiers, routes, costs, modes, and the handle of a request.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::{any, get};
use http::{HeaderMap, Method, Request, Response};
use proptest::prelude::*;
use tower::ServiceExt;
use tower_weir::key::{Extension, Header};
use tower_weir::layer::{LimitMode, RateLimitHandle};
use tower_weir::response::{RateLimitHeaders, RefusalReason};
use tower_weir::{
    ConfigError, Decision, Global, Limit, ManualClock, OnStoreError, Quota, Quotas, RateLimitLayer,
    RateLimitLayerBuilder, RateLimiter,
};

use crate::support::http::{retry_after, within};

/// A layer on a store of its own with a clock that stands still.
pub(crate) fn builder() -> (RateLimitLayerBuilder, ManualClock) {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    (RateLimitLayer::builder().limiter(rl.local()), clock)
}

pub(crate) fn client() -> Limit {
    Limit::per(Header::new("x-client")).name("client")
}

pub(crate) fn app(layer: &RateLimitLayer) -> Router {
    Router::new().fallback(any(async || "hello")).layer(layer.clone())
}

async fn send(app: &Router, request: http::request::Builder) -> Response<Body> {
    within(app.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap()
}

pub(crate) async fn ask(app: &Router, who: &str) -> Response<Body> {
    send(app, Request::get("/").header("x-client", who)).await
}

async fn status(app: &Router, who: &str) -> u16 {
    ask(app, who).await.status().as_u16()
}

/// The statuses of requests of one client each.
async fn statuses<const N: usize>(app: &Router, who: [&str; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status_of, who) in statuses.iter_mut().zip(who) {
        *status_of = status(app, who).await;
    }
    statuses
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap()
}

/// The greedy client is refused by its own limit, which costs the tenant and the service nothing.
#[tokio::test]
async fn a_refused_request_is_charged_to_no_limit() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("3/h"))
        .limit(Limit::per(Header::new("x-tenant")).quota("5/h").name("tenant"))
        .limit(Limit::per(Global).quota("6/h").name("service"))
        .build()
        .unwrap();
    let app = app(&layer);
    let of = |who, tenant| Request::get("/").header("x-client", who).header("x-tenant", tenant);
    let mut admitted = Vec::new();
    for (who, tenant) in [("a", "x"), ("b", "x"), ("c", "y")].into_iter().flat_map(|of| [of; 10]) {
        if send(&app, of(who, tenant)).await.status() == 200 {
            admitted.push(who);
        }
    }
    assert_eq!(admitted, ["a", "a", "a", "b", "b", "c"]);
}

#[tokio::test]
async fn the_wait_is_the_longest_and_exact_and_the_fields_list_every_limit() {
    let (builder, clock) = builder();
    let layer = builder
        .limit(Limit::per(Global).quota("2/min").name("service"))
        .limit(client().quota("2/h").quota("1/s"))
        .headers(RateLimitHeaders::Draft8)
        .build()
        .unwrap();
    let app = app(&layer);
    let first = ask(&app, "a").await;
    assert_eq!(
        lines(first.headers(), "ratelimit"),
        ["\"client-2\";r=0;t=2", "\"service\";r=1;t=60"],
        "the tightest comes first"
    );
    assert_eq!(lines(first.headers(), "ratelimit-policy").len(), 2);
    clock.advance(Duration::from_millis(2_000));
    assert_eq!(status(&app, "a").await, 200);
    clock.advance(Duration::from_millis(2_000));
    let refused = ask(&app, "a").await;
    assert_eq!((refused.status().as_u16(), retry_after(&refused)), (429, Some(3_597)));
    assert_eq!(refused.extensions().get::<Decision>().unwrap().limit(), 2);
    let text = lines(refused.headers(), "ratelimit").join(", ");
    assert!(text.starts_with("\"client\";r=0;t=3597, \"service\";r=0;t=57"), "{text}");
    let problem: serde_json::Value = serde_json::from_str(&body(refused).await).unwrap();
    assert_eq!(problem["violated-policies"], serde_json::json!(["client", "service"]));
    clock.advance(Duration::from_millis(3_595_000));
    assert_eq!(status(&app, "a").await, 429);
    clock.advance(Duration::from_millis(2_000));
    assert_eq!(status(&app, "a").await, 200);
}

/// A limit that is tried out refuses nothing, and clients do not learn of it, until it is enforced.
#[tokio::test]
async fn a_limit_in_shadow_counts_and_stays_hidden_until_it_is_enforced() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("2/h").shadow())
        .limit(Limit::per(Global).quota("100/h").name("service"))
        .headers(RateLimitHeaders::Draft8)
        .build()
        .unwrap();
    let (app, limit) = (app(&layer), layer.control().limit("client").unwrap());
    for _ in 0..5 {
        let response = ask(&app, "a").await;
        assert_eq!(response.status(), 200);
        assert!(!format!("{:?}", response.headers()).contains("client"), "{:?}", response.headers());
    }
    let used = limit.key("a").usage().await.unwrap().unwrap();
    assert_eq!((used.used(), used.limit()), (2, 2), "a request without room is not charged to a limit in shadow");
    limit.enforce();
    assert_eq!(statuses(&app, ["a", "b", "b", "b"]).await, [429, 200, 200, 429]);
    let service = layer.control().limit("service").unwrap().global();
    assert_eq!(service.usage().await.unwrap().unwrap().used(), 7, "a refused request is charged to no limit");
    limit.shadow();
    assert_eq!((limit.mode(), status(&app, "a").await), (LimitMode::Shadow, 200));
    limit.off();
    assert_eq!(status(&app, "a").await, 200);
    limit.set_mode(LimitMode::EnforceFor(100.0)).unwrap();
    assert_eq!(status(&app, "a").await, 429);
}

#[tokio::test]
async fn a_limit_is_enforced_for_a_part_of_the_keys() {
    let (builder, _) = builder();
    let layer = builder.limit(client().quota("1/h").enforced_for(30.0)).build().unwrap();
    let app = app(&layer);
    let refused = async || {
        let mut refused = Vec::new();
        for n in 0..300 {
            let who = format!("client {n}");
            status(&app, &who).await;
            if status(&app, &who).await == 429 {
                refused.push(n);
            }
        }
        refused
    };
    let some = refused().await;
    assert!((60..=120).contains(&some.len()), "{} of 300", some.len());
    layer.control().limit("client").unwrap().set_mode(LimitMode::EnforceFor(60.0)).unwrap();
    let more = refused().await;
    assert!((150..=210).contains(&more.len()) && some.iter().all(|n| more.contains(n)), "{} of 300", more.len());
}

#[tokio::test]
async fn each_listed_route_has_quotas_and_a_history_of_its_own() {
    let (builder, _) = builder();
    let routes = [("POST /login", "1/min"), ("/users/{id}", "2/min"), ("/pkg.Echo/*", "1/h")];
    let layer = builder.quotas(["3/min"]).key(Global).routes(routes).headers(RateLimitHeaders::Draft8).build().unwrap();
    let hello = async || "hello";
    let app = Router::new().route("/users/{id}", get(hello)).fallback(any(hello)).layer(layer);
    let mut seen = Vec::new();
    for (method, path) in [
        (Method::POST, "/login"),
        (Method::POST, "/login?again"),
        (Method::GET, "/login"),
        (Method::GET, "/users/1"),
        (Method::HEAD, "/users/2"),
        (Method::GET, "/users/3"),
        (Method::POST, "/pkg.Echo/Say"),
        (Method::POST, "/pkg.Echo/Hear"),
        (Method::GET, "/"),
        (Method::GET, "/a"),
        (Method::GET, "/b"),
    ] {
        seen.push(send(&app, Request::builder().method(method).uri(path)).await.status().as_u16());
    }
    assert_eq!(seen, [200, 429, 200, 200, 200, 429, 200, 429, 200, 200, 429]);
    let refused = send(&app, Request::post("/login")).await;
    assert_eq!(lines(refused.headers(), "ratelimit"), ["\"default:POST /login\";r=0;t=61"]);
}

#[tokio::test]
async fn routes_can_be_unlimited_or_blocked_and_others_need_no_quota() {
    let (builder, _) = builder();
    let routes =
        [("/free", Quotas::UNLIMITED), ("/closed", Quotas::BLOCKED), ("/slow", Quotas::try_from("1/h").unwrap())];
    let layer = builder.limit(Limit::per(Global).routes(routes)).build().unwrap();
    let app = app(&layer);
    let mut seen = Vec::new();
    for path in ["/free", "/free", "/closed", "/slow", "/slow", "/other", "/other"] {
        let response = send(&app, Request::get(path)).await;
        assert_eq!(retry_after(&response).is_some(), path == "/slow" && response.status() == 429);
        seen.push(response.status().as_u16());
    }
    assert_eq!(seen, [200, 200, 429, 200, 429, 200, 200]);
}

/// The costs of a limit come before those of the layer, and routes before functions.
#[tokio::test]
async fn a_cost_can_be_listed_beside_a_route() {
    let (builder, _) = builder();
    let layer = builder
        .limit(Limit::per(Global).quota("1000/h").name("a"))
        .limit(Limit::per(Global).quota("1000/h").name("b").costs([("POST /order", 50)]))
        .limit(Limit::per(Global).quota("1000/h").name("c").cost(|_| 7).costs([("/free", 0)]))
        .costs([("/export", 10), ("/free", 0)])
        .build()
        .unwrap();
    let (app, control) = (app(&layer), layer.control());
    for (method, path, want) in [
        (Method::GET, "/", [1, 1, 7]),
        (Method::GET, "/export", [10, 10, 7]),
        (Method::GET, "/free", [0, 0, 0]),
        (Method::POST, "/order", [1, 50, 7]),
        (Method::GET, "/order", [1, 1, 7]),
    ] {
        assert_eq!(send(&app, Request::builder().method(method).uri(path)).await.status(), 200);
        for (name, want) in ["a", "b", "c"].into_iter().zip(want) {
            let key = control.limit(name).unwrap().global();
            assert_eq!(key.usage().await.unwrap().unwrap().used(), want, "{path} {name}");
            key.reset().await.unwrap();
        }
    }
    let wrong = RateLimitLayer::builder().quotas(["1/s"]).costs([("export", 10)]).build();
    assert_eq!(wrong.unwrap_err(), ConfigError::InvalidRoute("export".into()));
}

/// What is free for a blocked client still counts for the other limits.
#[tokio::test]
async fn a_free_request_of_a_blocked_client_is_charged_to_the_other_limits() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota_fn(|_| Quotas::BLOCKED).cost(|req| u64::from(req.uri().path() != "/free")))
        .limit(Limit::per(Global).quota("2/h").name("service"))
        .build()
        .unwrap();
    let app = app(&layer);
    let mut seen = Vec::new();
    for path in ["/", "/free", "/free", "/free"] {
        seen.push(send(&app, Request::get(path).header("x-client", "a")).await.status().as_u16());
    }
    assert_eq!(seen, [429, 200, 200, 429]);
}

#[derive(Clone)]
struct User {
    id: u64,
    quotas: Quotas,
}

impl tower_weir::key::Key for User {
    fn write_to(&self, out: &mut tower_weir::key::KeyWriter) {
        out.write(&self.id);
    }
}

/// The plan changes while units are in use: the new quota applies to them at once.
#[tokio::test]
async fn a_changed_plan_applies_to_the_history_at_once() {
    let (builder, clock) = builder();
    let layer = builder
        .limit(Limit::per(Extension::<User>::new()).quota_for(|user: &User| user.quotas.clone()).name("plan"))
        .build()
        .unwrap();
    let app = app(&layer);
    let quotas = |text: &str| Quotas::try_from(text).unwrap();
    let send = async |id, quotas: &Quotas, n: usize| {
        let mut admitted = 0;
        for _ in 0..n {
            let request = Request::get("/").extension(User { id, quotas: quotas.clone() });
            admitted += usize::from(send(&app, request).await.status() == 200);
        }
        admitted
    };
    let (free, pro) = (quotas("5/min"), quotas("12/min"));
    assert_eq!(send(1, &free, 10).await, 5);
    assert_eq!(send(1, &pro, 10).await, 7, "an upgrade adds what the new plan has more");
    assert_eq!(send(1, &free, 10).await, 0, "a downgrade counts what is in use");
    assert_eq!(send(1, &Quotas::UNLIMITED, 10).await, 10);
    assert_eq!(send(1, &Quotas::BLOCKED, 10).await, 0);
    assert_eq!(send(2, &free, 10).await, 5, "another user");
    clock.advance(Duration::from_secs(61));
    assert_eq!(send(1, &free, 10).await, 5);
    let several = Quotas::try_from(["3/s", "6/min"]).unwrap();
    clock.advance(Duration::from_secs(61));
    assert_eq!(send(1, &several, 10).await, 3);
    clock.advance(Duration::from_secs(2));
    assert_eq!(send(1, &several, 10).await, 3);
    clock.advance(Duration::from_secs(2));
    assert_eq!(send(1, &several, 10).await, 0);
    layer.control().limit("plan").unwrap().key(&1_u64).reset().await.unwrap();
    assert_eq!(send(1, &several, 10).await, 3, "reset");
    // The value that selects the quotas is missing, and so is the key.
    assert_eq!(self::send(&app, Request::get("/")).await.status(), 500);
}

/// Quotas that the store cannot hold follow `on_store_error`, and do not panic.
#[tokio::test]
async fn quotas_that_the_store_does_not_support_are_an_outage_of_the_limit() {
    for (policy, want) in [(OnStoreError::Reject, 503), (OnStoreError::LocalShare, 503), (OnStoreError::Allow, 200)] {
        let (builder, _) = builder();
        let limit = client().quota_fn(|req| {
            let ms: u64 = req.headers()["x-window"].to_str().unwrap().parse().unwrap();
            Quota::new(1_000_000, Duration::from_millis(ms)).unwrap()
        });
        let layer = builder.limit(limit).on_store_error(policy).build().unwrap();
        let app = app(&layer);
        let send = async |ms: u64| {
            let request = Request::get("/").header("x-client", "a").header("x-window", ms.to_string());
            send(&app, request).await.status().as_u16()
        };
        for n in 1..=8 {
            assert_eq!(send(1_000 * n).await, 200);
        }
        assert_eq!(send(9_000).await, want, "the ninth window");
        assert_eq!(send(1).await, want, "shorter than a bucket");
        assert_eq!(send(4_000).await, 200);
    }
}

#[tokio::test]
async fn a_cost_is_charged_as_a_whole_and_above_the_limit_no_wait_helps() {
    let (builder, _) = builder();
    let layer = builder
        .quotas(["10/h"])
        .key(Global)
        .cost(|req| req.headers().get("x-cost").map_or(1, |cost| cost.to_str().unwrap().parse().unwrap()))
        .build()
        .unwrap();
    let app = app(&layer);
    let costs = async |cost: u64| {
        let response = send(&app, Request::get("/").header("x-cost", cost)).await;
        (response.status().as_u16(), retry_after(&response).is_some())
    };
    let refused = send(&app, Request::get("/").header("x-cost", 11)).await;
    let problem: serde_json::Value = serde_json::from_str(&body(refused).await).unwrap();
    assert_eq!(problem["detail"], "the request exceeds the limit, so no wait helps");
    assert_eq!(costs(11).await, (429, false));
    assert_eq!(costs(u64::MAX).await, (429, false));
    assert_eq!(costs(7).await, (200, false));
    assert_eq!(costs(4).await, (429, true));
    assert_eq!(costs(3).await, (200, false));
    assert_eq!(costs(1).await, (429, true));
    assert_eq!(costs(0).await, (200, false), "free");
}

#[tokio::test]
async fn a_cost_can_be_the_declared_length() {
    let (builder, _) = builder();
    let reasons = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&reasons);
    let layer = builder
        .quotas(["1000/h"])
        .key(Global)
        .cost(|req| req.content_length().unwrap_or(500))
        .on_refusal(move |refusal| {
            seen.lock().unwrap().push(refusal.reason());
            refusal.response().clone()
        })
        .build()
        .unwrap();
    let app = app(&layer);
    let mut statuses = Vec::new();
    for length in [Some("600"), Some("401"), Some("400"), Some("1001"), Some("junk"), None] {
        let request = Request::post("/");
        let request = length.into_iter().fold(request, |request, length| request.header("content-length", length));
        statuses.push(send(&app, request).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 429, 200, 429, 429, 429]);
    use RefusalReason::{ExceedsLimit, Limited};
    assert_eq!(*reasons.lock().unwrap(), [Limited, ExceedsLimit, Limited, Limited]);
}

/// One limit counts requests, the other their units.
#[tokio::test]
async fn each_limit_can_have_a_cost_of_its_own() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("3/h"))
        .limit(Limit::per(Header::new("x-client")).quota("100/h").cost(|_| 40).name("units"))
        .build()
        .unwrap();
    let app = app(&layer);
    assert_eq!(statuses(&app, ["a"; 4]).await, [200, 200, 429, 429]);
    let control = layer.control();
    let used = async |name| control.limit(name).unwrap().key("a").usage().await.unwrap().unwrap().used();
    assert_eq!((used("client").await, used("units").await), (2, 80));
}

#[tokio::test]
async fn a_handler_reads_charges_refunds_and_resets() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("10/h"))
        .limit(Limit::per(Global).quota("100/h").name("service").shadow())
        .handle(true)
        .build()
        .unwrap();
    let handler = async |limits: RateLimitHandle, request: Request<Body>| {
        let names: Vec<_> = limits.limits().map(|limit| format!("{} {}", limit.name, limit.is_enforced)).collect();
        assert_eq!(names, ["client true", "service false"]);
        assert!(limits.remaining("other").is_none() && limits.charge("other", 1).await.is_err());
        let before = limits.remaining("client").unwrap();
        match request.uri().path() {
            "/more" => format!("{before} {}", limits.charge("client", 4).await.unwrap().remaining()),
            "/back" => format!("{before} {} {}", limits.refund("client", 7), limits.refund("client", 7)),
            "/reset" => {
                limits.reset("client").await.unwrap();
                assert_eq!(limits.refund("client", 1), 0);
                before.to_string()
            }
            _ => before.to_string(),
        }
    };
    let app = Router::new().fallback(any(handler)).layer(layer);
    let mut seen = Vec::new();
    for path in ["/", "/more", "/", "/back", "/", "/reset", "/"] {
        seen.push(body(send(&app, Request::get(path).header("x-client", "a")).await).await);
    }
    // 10: one, one and four more, one, one that is given back, one, one that is forgotten, one.
    assert_eq!(seen, ["9", "8 4", "3", "2 1 0", "2", "1", "9"]);
}

#[tokio::test]
async fn a_handle_lists_nothing_for_an_exempt_request_and_is_missing_without_a_layer() {
    let handler = async |limits: RateLimitHandle| limits.limits().count().to_string();
    let app = Router::new().fallback(any(handler));
    let response = send(&app, Request::get("/")).await;
    assert_eq!(response.status(), 500);
    assert!(body(response).await.contains(".handle(true)"));
    let (builder, _) = builder();
    let layer = builder.quotas(["1/h"]).key(Global).exempt_paths(["/health"]).handle(true).build().unwrap();
    let app = app.layer(layer);
    assert_eq!(body(send(&app, Request::get("/health")).await).await, "0");
    assert_eq!(body(send(&app, Request::get("/")).await).await, "1");
}

#[tokio::test]
async fn a_refusal_handler_sees_the_request_and_every_limit() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("1/h"))
        .limit(Limit::per(Global).quota("1/min").name("service"))
        .limit(Limit::per(Global).quota("1/d").name("hidden").shadow())
        .on_refusal(|refusal| {
            assert_eq!(refusal.reason(), RefusalReason::Limited);
            let limits: Vec<_> = refusal
                .decisions()
                .map(|(policy, decision)| format!("{} {}", policy.name(), decision.used()))
                .collect();
            let text = format!("{} {} {limits:?}", refusal.request().uri().path(), refusal.policy().name());
            Response::builder().status(420).body(text.into()).unwrap()
        })
        .build()
        .unwrap();
    let app = app(&layer);
    assert_eq!(status(&app, "a").await, 200);
    let refused = send(&app, Request::get("/why").header("x-client", "a")).await;
    assert_eq!(refused.status(), 420);
    assert_eq!(body(refused).await, "/why client [\"client 1\", \"service 1\"]");
}

/// A limit that refuses nothing must not refuse a request without a key either.
#[tokio::test]
async fn a_limit_in_shadow_needs_no_key() {
    let (builder, _) = builder();
    let layer = builder
        .limit(client().quota("1/h").shadow())
        .limit(Limit::per(Global).quota("2/h").name("service"))
        .build()
        .unwrap();
    let app = app(&layer);
    assert_eq!(send(&app, Request::get("/")).await.status(), 200);
    layer.control().limit("client").unwrap().enforce();
    assert_eq!(send(&app, Request::get("/")).await.status(), 400);
    assert_eq!(statuses(&app, ["a", "b"]).await, [200, 429], "the refused request was charged to no limit");
}

#[test]
fn mistakes_are_errors_that_state_what_to_write() {
    let build = |limits: Vec<Limit>| {
        limits.into_iter().fold(RateLimitLayer::builder(), RateLimitLayerBuilder::limit).build().unwrap_err()
    };
    let one = || Limit::per(Global).quota("1/s");
    assert_eq!(build(vec![one(), one()]), ConfigError::DuplicateLimitName("default".into()));
    assert_eq!(build((0..9).map(|n| one().name(n.to_string())).collect()), ConfigError::TooManyLimits { most: 8 });
    assert_eq!(build(vec![Limit::per(Global)]), ConfigError::NoQuota);
    let either = one().quota_fn(|_| Quotas::BLOCKED);
    assert_eq!(build(vec![either]), ConfigError::QuotasConflict("default".into()));
    assert_eq!(build(vec![one().enforced_for(101.0)]), ConfigError::InvalidPercentage(101.0));
    assert_eq!(build(vec![one().routes([("login", "1/s")])]), ConfigError::InvalidRoute("login".into()));
    assert!(matches!(build(vec![one().routes([("/login", "often")])]), ConfigError::InvalidQuota(_)));
    assert!(matches!(build(vec![one().quota("0/s")]), ConfigError::CapacityBelowOne | ConfigError::InvalidQuota(_)));
    assert!(matches!(build(vec![one().suppressed(0.5)]), ConfigError::InvalidHardLimitFactor(_)));
    assert!(matches!(build(vec![one().name("ö")]), ConfigError::InvalidPolicyName(_)));
    let layer = RateLimitLayer::builder().limit(one().name("a")).limit(one().name("b")).build().unwrap();
    let unknown = layer.control().limit("c").unwrap_err();
    assert_eq!(unknown.to_string(), "no limit has the name \"c\"; write one of [\"a\", \"b\"]");
    // The short form is one limit more.
    let both = RateLimitLayer::builder().quotas(["1/s"]).limit(one().name("b")).build().unwrap();
    assert_eq!(both.control().limits().count(), 2);
    let half = RateLimitLayer::builder().key(Global).limit(one().name("b")).build();
    assert_eq!(half.unwrap_err(), ConfigError::NoQuota);
}

/// One step of a service whose quotas and modes change.
#[derive(Clone, Debug)]
enum Step {
    Pause(u64),
    /// A request of a client with this quota and cost.
    Ask(u8, u64, u64),
    Mode(LimitMode),
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![Just(LimitMode::Enforce), Just(LimitMode::Shadow), Just(LimitMode::Off)];
    prop_oneof![
        2 => (0_u64..400).prop_map(|units| Step::Pause(10 * units)),
        12 => (0_u8..2, prop_oneof![Just(3), Just(8), Just(20)], 0_u64..5).prop_map(|(who, quota, cost)| Step::Ask(who, quota, cost)),
        1 => mode.prop_map(Step::Mode),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Quotas, costs and modes change at random in the middle of the window. Nothing panics, no request is admitted
    /// above the quota that it has, none is refused with room, and no unit is forgotten.
    #[test]
    fn changes_in_mid_window_are_those_of_a_naive_log(steps in prop::collection::vec(step(), 1..120)) {
        let (builder, clock) = builder();
        let quota = Arc::new(AtomicU64::new(3));
        let (chosen, cost) = (Arc::clone(&quota), Arc::new(AtomicU64::new(1)));
        let units = Arc::clone(&cost);
        let layer = builder
            .limit(client().quota_fn(move |_| Quota::per_second(chosen.load(Ordering::Relaxed)).unwrap()))
            .cost(move |_| units.load(Ordering::Relaxed))
            .build()
            .unwrap();
        let (app, limit) = (app(&layer), layer.control().limit("client").unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (mut log, mut now, mut mode) = ([vec![], vec![]], 0, LimitMode::Enforce);
        for step in steps {
            match step {
                Step::Pause(ms) => {
                    clock.advance(Duration::from_millis(ms));
                    now += ms / 10;
                }
                Step::Mode(changed) => {
                    limit.set_mode(changed).unwrap();
                    mode = changed;
                }
                Step::Ask(who, most, units) => {
                    quota.store(most, Ordering::Relaxed);
                    cost.store(units, Ordering::Relaxed);
                    let log: &mut Vec<(u64, u64)> = &mut log[usize::from(who)];
                    let used: u64 = log.iter().filter(|(tick, _)| now - tick <= 100).map(|(_, units)| units).sum();
                    let has_room = used + units <= most;
                    let is_admitted = runtime.block_on(status(&app, ["a", "b"][usize::from(who)])) == 200;
                    prop_assert_eq!(is_admitted, has_room || mode != LimitMode::Enforce);
                    if has_room && mode != LimitMode::Off && units > 0 {
                        log.push((now, units));
                    }
                }
            }
        }
    }
}

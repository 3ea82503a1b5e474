//! Layers around each other: which order is right, and which wait is true.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response, Version};
use tower::ServiceExt;
use tower_weir::key::Header;
use tower_weir::response::RateLimitHeaders;
use tower_weir::{Global, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

async fn send(app: &Router, client: &str) -> Response<Body> {
    let request = Request::get("/").header("x-client", client).body(Body::empty()).unwrap();
    within(app.clone().oneshot(request)).await.unwrap()
}

async fn admitted(app: &Router, client: &str, n: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..n {
        admitted += usize::from(send(app, client).await.status() == 200);
    }
    admitted
}

/// The narrow limit outside keeps one client from draining the wide one; the other order lets it.
#[tokio::test]
async fn the_limit_by_client_belongs_around_the_limit_for_all() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    for is_narrow_outside in [true, false] {
        let layer = |name: &str, quota: &str| {
            RateLimitLayer::builder().name(format!("{name} {is_narrow_outside}")).quotas([quota]).limiter(rl.local())
        };
        let by_client = layer("client", "5/h").key(Header::new("x-client")).build().unwrap();
        let for_all = layer("all", "100/h").key(Global).build().unwrap();
        let app = Router::new().route("/", get(async || "hello"));
        // axum wraps: the last one is outside.
        let app = match is_narrow_outside {
            true => app.layer(for_all).layer(by_client),
            false => app.layer(by_client).layer(for_all),
        };
        assert_eq!(admitted(&app, "greedy", 200).await, 5);
        assert_eq!(admitted(&app, "other", 5).await, if is_narrow_outside { 5 } else { 0 });
    }
}

/// An inner refusal that took the last unit of the outer limit.
#[tokio::test]
async fn the_wait_of_a_stack_is_true_whatever_fields_are_asked_for() {
    let with = |headers| move |builder: RateLimitLayerBuilder| builder.headers(headers).key(Global);
    for headers in [RateLimitHeaders::None, RateLimitHeaders::Draft8, RateLimitHeaders::Draft6] {
        let clock = ManualClock::new();
        let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
        let layer = |name, quota| {
            with(headers)(RateLimitLayer::builder()).name(name).quotas([quota]).limiter(rl.local()).build().unwrap()
        };
        let app = Router::new().route("/", get(async || "hello")).layer(layer("in", "1/s")).layer(layer("out", "2/h"));
        assert_eq!(send(&app, "").await.status(), 200);
        let refused = send(&app, "").await;
        let wait = retry_after(&refused).unwrap();
        assert_eq!(refused.status(), 429);
        assert!(wait >= 3_600, "{wait} s, and the outer limit has no room for an hour");
        clock.advance(Duration::from_secs(wait));
        assert_eq!(send(&app, "").await.status(), 200, "the wait was true");
    }
}

#[tokio::test]
async fn the_pushback_of_a_grpc_stack_is_true_too() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let layer = |name, quota| {
        RateLimitLayer::builder().key(Global).name(name).quotas([quota]).limiter(rl.local()).build().unwrap()
    };
    let app = Router::new().fallback(async || "hello").layer(layer("in", "1/s")).layer(layer("out", "2/h"));
    let call = async || {
        let request = Request::post("/a.B/C").version(Version::HTTP_2).header("content-type", "application/grpc");
        within(app.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap()
    };
    assert!(!call().await.headers().contains_key("grpc-status"));
    let refused = call().await;
    let wait: u64 = refused.headers()["grpc-retry-pushback-ms"].to_str().unwrap().parse().unwrap();
    assert_eq!((refused.headers()["grpc-status"].to_str().unwrap(), wait >= 3_600_000), ("8", true), "{wait} ms");
    assert_eq!(retry_after(&refused), Some(wait.div_ceil(1_000)), "all forms agree");
    clock.advance(Duration::from_millis(wait));
    assert!(!call().await.headers().contains_key("grpc-status"), "the wait was true");
}

//! What a client sees, and what the program can read and change.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::layer::RateLimitHandle;
use tower_weir::response::{RateLimitHeaders, RefusalReason};
use tower_weir::{ClientIp, Global, Limit, ManualClock, RateLimitLayer, RateLimiter, StoreErrorKind};

use super::{cap, in_flight, request};

async fn send(layer: &RateLimitLayer, request: Request<Body>) -> Response<Body> {
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    layer.layer(hello).oneshot(request).await.unwrap().map(Body::new)
}

fn names(response: &Response<Body>) -> Vec<&str> {
    response.headers().keys().map(http::HeaderName::as_str).collect()
}

async fn json(response: Response<Body>) -> serde_json::Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// The fields describe windows, so a cap has none. Those of another limit stay.
#[tokio::test]
async fn a_refusal_has_a_detail_of_its_own_and_neither_a_wait_nor_fields() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let builder = || RateLimitLayer::builder().headers(RateLimitHeaders::Draft8).limiter(rl.local());
    let alone = builder().limit(cap(1)).build().unwrap();
    let held = send(&alone, request("a")).await;
    assert!(names(&held).is_empty(), "{held:?}");
    let refused = send(&alone, request("a")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(names(&refused), ["content-type", "cache-control"]);
    let problem = json(refused).await;
    assert_eq!(problem["detail"], "too many requests in flight");
    assert_eq!(problem["violated-policies"], serde_json::json!(["cap"]));

    let quota = Limit::per(Global).quota("2/h").name("quota");
    let both = builder().limit(cap(1).name("other")).limit(quota).build().unwrap();
    let held = send(&both, request("a")).await;
    assert_eq!(held.headers()["ratelimit"], "\"quota\";r=1;t=3600");
    let refused = send(&both, request("a")).await;
    assert!(!refused.headers().contains_key("retry-after"), "{refused:?}");
    assert_eq!(refused.headers()["ratelimit"], "\"quota\";r=1;t=3600");
    assert_eq!(json(refused).await["violated-policies"], serde_json::json!(["other"]));
    // Both refuse. The wait of the quota would not help.
    let also = send(&both, request("b")).await;
    assert_eq!(also.status(), 200);
    let refused = send(&both, request("a")).await;
    assert!(!refused.headers().contains_key("retry-after"), "{refused:?}");
    assert_eq!(json(refused).await["violated-policies"], serde_json::json!(["other", "quota"]));
    let refused = send(&both, request("c")).await;
    assert!(refused.headers().contains_key("retry-after"), "only the quota refuses");
    drop(held);
}

#[tokio::test]
async fn a_grpc_refusal_is_resource_exhausted_and_forbids_no_retry() {
    let layer = super::layer([cap(1)]);
    let grpc = || {
        Request::post("/p.S/M")
            .version(http::Version::HTTP_2)
            .header("x-client", "a")
            .header("content-type", "application/grpc")
    };
    let held = send(&layer, grpc().body(Body::empty()).unwrap()).await;
    let refused = send(&layer, grpc().body(Body::empty()).unwrap()).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"8".parse().unwrap()));
    assert_eq!(refused.headers()["grpc-message"], "too many requests in flight");
    assert!(
        !refused.headers().contains_key("grpc-retry-pushback-ms") && !refused.headers().contains_key("retry-after")
    );
    drop(held);
    assert!(!send(&layer, grpc().body(Body::empty()).unwrap()).await.headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn a_refusal_handler_sees_the_reason_and_the_cap() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let layer = RateLimitLayer::builder()
        .limit(cap(1).ban("2 in 1h for 1d"))
        .on_refusal(move |refusal| {
            let decision = refusal.decision().map(|it| (it.used(), it.limit(), it.retry_after().is_some()));
            sees.lock().unwrap().push((refusal.reason(), refusal.policy().name().to_owned(), decision));
            refusal.response().clone()
        })
        .build()
        .unwrap();
    let held = send(&layer, request("a")).await;
    for _ in 0..3 {
        assert_eq!(send(&layer, request("a")).await.status(), 429);
    }
    drop(held);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], (RefusalReason::InFlight, "cap".to_owned(), Some((1, 1, false))));
    assert_eq!(seen[2].0, RefusalReason::Banned, "a client that does not stop is banned");
    assert_eq!(in_flight(&layer, "a").await, 0);
}

/// Only requests hold permits, so a program cannot charge one that nothing would return.
#[tokio::test]
async fn a_handle_and_a_control_read_a_cap_and_cannot_lose_its_permits() {
    let layer = super::layer([cap(3)]);
    let service = service_fn(async |request: Request<Body>| {
        let limits = request.extensions().get::<RateLimitHandle>().unwrap().clone();
        assert_eq!((limits.remaining("cap"), limits.refund("cap", 1)), (Some(2), 0));
        let error = limits.charge("cap", 1).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::NotConfigured);
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    });
    let held = layer.layer(service).oneshot(request("a")).await.unwrap();
    let key = layer.control().limit("cap").unwrap().key("a");
    assert_eq!(key.set(2).await.unwrap_err().kind(), StoreErrorKind::NotConfigured);
    let usage = key.usage().await.unwrap().unwrap();
    assert_eq!((usage.used(), usage.limit(), usage.remaining()), (1, 3, 2));
    let [_second, _third] = [send(&layer, request("a")).await, send(&layer, request("a")).await];
    let full = key.peek(1).await.unwrap().unwrap();
    assert_eq!((full.is_allowed(), full.used(), full.retry_after()), (false, 3, None));
    key.reset().await.unwrap();
    assert_eq!(in_flight(&layer, "a").await, 0, "all permits are forgotten");
    drop(held);
    assert_eq!(in_flight(&layer, "a").await, 0, "and return nothing");
}

/// A new cap applies to the requests that are in flight.
#[tokio::test]
async fn an_update_keeps_the_requests_in_flight() {
    let policy = |most| RateLimitLayer::builder().limit(Limit::per(ClientIp::peer()).in_flight(most).name("cap"));
    let request = || {
        let mut request = Request::new(Body::empty());
        let peer: std::net::SocketAddr = "192.0.2.1:80".parse().unwrap();
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        request
    };
    let layer = policy(3).build().unwrap();
    let held = [send(&layer, request()).await, send(&layer, request()).await];
    layer.control().update(policy(2)).unwrap();
    assert_eq!(send(&layer, request()).await.status(), 429);
    let [one, two] = held;
    drop(one);
    let three = send(&layer, request()).await;
    assert_eq!((two.status().as_u16(), three.status().as_u16()), (200, 200));
    assert_eq!(send(&layer, request()).await.status(), 429);
}

/// Two layers may use one store and one name, for a cap and for a quota.
#[tokio::test]
async fn a_cap_and_a_quota_with_one_name_do_not_share_their_counts() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let layer = |limit: Limit| RateLimitLayer::builder().limit(limit.name("cap")).limiter(rl.local()).build().unwrap();
    let (caps, quotas) = (layer(cap(2)), layer(Limit::per(tower_weir::key::Header::new("x-client")).quota("5/h")));
    let held = send(&caps, request("a")).await;
    for used in 1..4 {
        drop(send(&quotas, request("a")).await);
        assert_eq!((in_flight(&caps, "a").await, in_flight(&quotas, "a").await), (1, used));
    }
    drop(held);
    assert_eq!((in_flight(&caps, "a").await, in_flight(&quotas, "a").await), (0, 3));
}

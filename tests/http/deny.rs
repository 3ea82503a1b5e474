//! Requests that a layer refuses without a decision, and the responses to them.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Request, Response, Version};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_weir::key::{MissingKey, Networks};
use tower_weir::response::{RateLimitHeaders, RefusalBody, RefusalReason};
use tower_weir::{ClientIp, ConfigError, Decision, Global, RateLimitLayer, RateLimitLayerBuilder};

use crate::support::http::within;

/// One request in a minute, of all clients together.
fn one() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quotas(["1/min"]).key(Global)
}

/// No limit that a test reaches.
fn many() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quotas(["1000/min"]).key(Global)
}

fn admin() -> RateLimitLayerBuilder {
    one().deny(|req| req.uri().path() == "/admin")
}

fn app(builder: RateLimitLayerBuilder) -> Router {
    Router::new().fallback(any(async || "hello")).layer(builder.build().unwrap())
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    within(app.clone().oneshot(request)).await.unwrap()
}

async fn get(app: &Router, path: &str) -> Response<Body> {
    send(app, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn gets<const N: usize>(app: &Router, paths: [&str; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, path) in statuses.iter_mut().zip(paths) {
        *status = get(app, path).await.status().as_u16();
    }
    statuses
}

/// The status for a peer, with an `X-Forwarded-For` header if there is a list.
async fn from(app: &Router, peer: &str, list: Option<&str>) -> u16 {
    let peer = SocketAddr::new(peer.parse::<IpAddr>().unwrap(), 4_000);
    let request = Request::get("/").extension(axum::extract::ConnectInfo(peer));
    let request = list.into_iter().fold(request, |request, list| request.header("x-forwarded-for", list));
    send(app, request.body(Body::empty()).unwrap()).await.status().as_u16()
}

async fn text(response: Response<Body>) -> String {
    let bytes = within(axum::body::to_bytes(response.into_body(), 999)).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_denied_request_is_not_charged_and_every_other_is_limited() {
    let app = app(admin().deny(|req| req.headers().contains_key("x-bad")));
    assert_eq!(gets(&app, ["/admin"; 5]).await, [403; 5]);
    assert_eq!(gets(&app, ["/", "/", "/admin", "/admin/", "/administrator"]).await, [200, 429, 403, 429, 429]);
    let bad = Request::get("/").header("x-bad", "1").body(Body::empty()).unwrap();
    assert_eq!(send(&app, bad).await.status(), 403, "each call adds a case");
}

#[tokio::test]
async fn the_key_of_a_denied_request_is_not_read() {
    let reads = Arc::new(AtomicU32::new(0));
    let (read, looked_up) = (Arc::clone(&reads), Arc::clone(&reads));
    for builder in [
        RateLimitLayer::builder().key_fn(move |_| Some(u64::from(read.fetch_add(1, Ordering::Relaxed) + 1))),
        RateLimitLayer::builder().key_lookup(move |_| {
            looked_up.fetch_add(1, Ordering::Relaxed);
            async { Ok::<u64, MissingKey>(7) }
        }),
    ] {
        let app = app(builder.quotas(["9/min"]).deny(|req| req.uri().path() == "/admin"));
        reads.store(0, Ordering::Relaxed);
        assert_eq!(gets(&app, ["/admin"; 3]).await, [403; 3]);
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert_eq!(gets(&app, ["/"; 2]).await, [200; 2]);
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn an_exempt_request_is_not_denied_and_a_layer_that_is_off_denies_nothing() {
    let exempt_first = admin().exempt_paths(["/admin"]);
    let exempt_last = one().exempt_paths(["/admin"]).deny(|_| true);
    for builder in [exempt_first, exempt_last, admin().enabled(false), one().deny(|_| true).enabled(false)] {
        assert_eq!(gets(&app(builder), ["/admin"; 3]).await, [200; 3]);
    }
}

#[tokio::test]
async fn a_denial_has_no_wait_no_fields_and_no_decision() {
    let app = app(admin().headers(RateLimitHeaders::Draft8).message("slow down"));
    let response = get(&app, "/admin").await;
    let mut names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "content-type"]);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.extensions().get::<Decision>().is_none());
    let problem: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(problem, json!({"type": "about:blank", "title": "Forbidden", "status": 403}));
}

#[tokio::test]
async fn the_status_and_the_body_of_a_denial_are_set_by_the_builder() {
    let problem = |title: &str, status: u16| json!({"type": "about:blank", "title": title, "status": status});
    for (status, body, want) in [
        (404, RefusalBody::Problem, problem("Not Found", 404).to_string()),
        (499, RefusalBody::Problem, problem("Request Refused", 499).to_string()),
        (404, RefusalBody::Text, "Not Found".to_owned()),
        (503, RefusalBody::Empty, String::new()),
    ] {
        let response = get(&app(admin().denied_status(status).body(body)), "/admin").await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let (got, is_problem) = (text(response).await, body == RefusalBody::Problem);
        match is_problem {
            true => assert_eq!(serde_json::from_str::<Value>(&got).unwrap().to_string(), want),
            false => assert_eq!(got, want),
        }
    }
    for status in [200, 302, 399, 600] {
        assert_eq!(admin().denied_status(status).build().unwrap_err(), ConfigError::InvalidStatus(status));
    }
}

#[tokio::test]
async fn a_grpc_client_gets_permission_denied() {
    let app = app(admin().headers(RateLimitHeaders::Draft8).denied_status(503));
    let request = Request::post("/admin").version(Version::HTTP_2).header("content-type", "application/grpc");
    let response = send(&app, request.body(Body::empty()).unwrap()).await;
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!((response.status().as_u16(), header("grpc-status")), (200, Some("7")));
    assert_eq!(header("grpc-message"), Some("permission denied"));
    assert_eq!(header("cache-control"), Some("no-store"));
    for name in ["grpc-retry-pushback-ms", "grpc-status-details-bin", "retry-after", "ratelimit", "ratelimit-policy"] {
        assert_eq!(header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_handler_knows_that_a_request_is_denied() {
    let builder = admin().on_refusal(|refusal| {
        let mut response = refusal.response().clone();
        let is_denied = refusal.reason() == RefusalReason::Denied && refusal.decision().is_none();
        *response.body_mut() = if is_denied { "denied".into() } else { "limited".into() };
        response.headers_mut().clear();
        response
    });
    let app = app(builder);
    get(&app, "/").await;
    for (path, status, want) in [("/admin", 403, "denied"), ("/", 429, "limited")] {
        let response = get(&app, path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (status, &"no-store".parse().unwrap())
        );
        assert_eq!(response.headers().contains_key("retry-after"), status == 429);
        assert_eq!(text(response).await, want);
    }
}

#[tokio::test]
async fn the_clients_of_a_denied_network_are_refused() {
    let networks = Networks::new(["192.0.2.0/24", "2001:db8::/32"]).unwrap();
    let app = app(many().deny_networks(ClientIp::peer(), &networks).deny_networks(ClientIp::peer(), ["198.51.100.7"]));
    for (peer, want) in [
        ("192.0.2.0", 403),
        ("192.0.2.255", 403),
        ("192.0.3.0", 200),
        ("::ffff:192.0.2.9", 403),
        ("64:ff9b::192.0.2.9", 403),
        ("2001:db8:1::9", 403),
        ("2001:db9::", 200),
        ("198.51.100.7", 403),
        ("198.51.100.8", 200),
    ] {
        assert_eq!(from(&app, peer, None).await, want, "{peer}");
    }
    assert_eq!(gets(&app, ["/"]).await, [200], "a request without an address is not denied");
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_denied_by_the_address_that_the_proxy_reports() {
    let ip = ClientIp::behind(["10.0.0.0/8"]).unwrap();
    let app = app(many().deny_networks(ip, ["192.0.2.0/24"]));
    for (peer, list, want) in [
        ("10.0.0.7", Some("192.0.2.9"), 403),
        ("10.0.0.7", Some("198.51.100.1, 192.0.2.9"), 403),
        ("10.0.0.7", Some("192.0.2.9, 198.51.100.1"), 200),
        ("10.0.0.7", Some("unknown"), 200),
        ("198.51.100.1", Some("192.0.2.9"), 200),
        ("192.0.2.9", Some("198.51.100.1"), 403),
    ] {
        assert_eq!(from(&app, peer, list).await, want, "{list:?} from {peer}");
    }
}

#[tokio::test]
async fn a_deny_list_may_contain_a_whole_family() {
    let app = app(many().deny_networks(ClientIp::peer(), ["::/0"]));
    assert_eq!((from(&app, "2001:db8::1", None).await, from(&app, "192.0.2.1", None).await), (403, 200));
}

#[test]
fn a_mistake_in_a_deny_list_is_an_error_of_build() {
    let peer = ClientIp::peer;
    for (builder, want) in [
        (
            many().deny_networks(peer(), ["all"]).deny_networks(peer(), ["none"]),
            ConfigError::InvalidNetwork("all".into()),
        ),
        (many().deny_networks(peer(), [""; 0]).deny_networks(peer(), ["::/0"]), ConfigError::NoNetwork),
        (many().deny_networks(peer().forwarded(), ["::/0"]), ConfigError::AddressHeaderWithoutProxy),
        (many().enabled(false).deny_networks(peer(), [""; 0]), ConfigError::NoNetwork),
    ] {
        assert_eq!(builder.build().unwrap_err(), want);
    }
}

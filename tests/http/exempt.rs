//! Which requests a layer leaves alone, and which it must not.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use http::{Method, Request};
use tower::ServiceExt;
use tower_weir::key::{Extension, Header, Networks, RequestView};
use tower_weir::layer::OnMissingKey;
use tower_weir::response::RateLimitHeaders;
use tower_weir::{ClientIp, ConfigError, Decision, Global, Quota, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

/// One request in a minute, of all clients together.
fn one() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quotas(["1/min"]).key(Global)
}

fn app(builder: RateLimitLayerBuilder) -> Router {
    Router::new().fallback(any(async || "hello")).layer(builder.build().unwrap())
}

async fn send(app: &Router, method: Method, path: &str) -> u16 {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = within(app.clone().oneshot(request)).await.unwrap();
    assert_eq!(retry_after(&response).is_some(), response.status() == 429, "an exempt answer asks for no wait");
    response.status().as_u16()
}

async fn gets<const N: usize>(app: &Router, paths: [&str; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, path) in statuses.iter_mut().zip(paths) {
        *status = send(app, Method::GET, path).await;
    }
    statuses
}

#[tokio::test]
async fn an_exempt_request_passes_uncharged_and_every_other_is_limited() {
    let app =
        app(one().exempt(|req| req.uri().path() == "/health").exempt(|req| req.headers().contains_key("x-probe")));
    assert_eq!(gets(&app, ["/health"; 5]).await, [200; 5], "no charge");
    assert_eq!(
        gets(&app, ["/", "/", "/health", "/healthy", "/health/", "//health"]).await,
        [200, 429, 200, 429, 429, 429]
    );
    let probe = Request::get("/").header("x-probe", "1").body(Body::empty()).unwrap();
    assert_eq!(within(app.clone().oneshot(probe)).await.unwrap().status(), 200, "each call adds a case");
}

/// A request without a key by mistake is refused, unlike with `OnMissingKey::Allow`.
#[tokio::test]
async fn an_exemption_needs_no_key_and_does_not_open_the_limit_to_requests_without_one() {
    for builder in [
        RateLimitLayer::builder().key(ClientIp::behind(["10.0.0.0/8"]).unwrap()),
        RateLimitLayer::builder().key(Header::new("x-api-key")),
        RateLimitLayer::builder().key(Extension::<u64>::new()).on_missing_key(OnMissingKey::Reject),
        RateLimitLayer::builder()
            .key_lookup(|_| async { Err::<u64, _>(tower_weir::key::MissingKey::client_fault("none")) }),
    ] {
        let app = app(builder.quotas(["9/min"]).exempt_paths(["/health"]));
        let [health, other] = gets(&app, ["/health?deep=1", "/"]).await;
        assert!(health == 200 && matches!(other, 400 | 500), "{health}, {other}");
    }
}

#[tokio::test]
async fn exempt_paths_are_compared_byte_by_byte() {
    let app = app(one().exempt_paths(["/health"]).exempt_paths(vec!["/metrics".to_owned()]));
    assert_eq!(gets(&app, ["/", "/health", "/metrics", "/health?x=/health"]).await, [200; 4]);
    let others = ["/Health", "/health/", "/he%61lth", "/health/../admin", "/?/health", "/health;a", "/metrics/x"];
    assert_eq!(gets(&app, others).await, [429; 7]);
    for path in ["", "health", "/health*", "/users/{id}", "/health?", "/a b"] {
        let error = one().exempt_paths([path]).build().unwrap_err();
        assert_eq!(error, ConfigError::InvalidExemptPath(path.into()));
    }
}

/// The status for a peer, with an `X-Forwarded-For` header if there is a list.
async fn from(app: &Router, peer: &str, list: Option<&str>) -> u16 {
    let peer = SocketAddr::new(peer.parse().unwrap(), 4_000);
    let request = Request::get("/").extension(axum::extract::ConnectInfo(peer));
    let request = list.into_iter().fold(request, |request, list| request.header("x-forwarded-for", list));
    within(app.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap().status().as_u16()
}

/// An application whose limit has no room, so that it refuses every request that is not exempt.
async fn full(builder: RateLimitLayerBuilder) -> Router {
    let app = app(builder);
    assert_eq!(gets(&app, ["/first"]).await, [200]);
    app
}

#[tokio::test]
async fn the_clients_of_an_exempt_network_are_not_limited() {
    let networks = Networks::new(["192.0.2.0/24", "2001:db8::/32"]).unwrap();
    let peer = ClientIp::peer;
    let app = full(one().exempt_networks(peer(), networks).exempt_networks(peer(), ["198.51.100.7"])).await;
    for (peer, want) in [
        ("192.0.2.0", 200),
        ("192.0.3.0", 429),
        ("::ffff:192.0.2.9", 200),
        ("64:ff9b::192.0.2.9", 429),
        ("2001:db8:1::9", 200),
        ("2001:db9::", 429),
        ("198.51.100.7", 200),
    ] {
        assert_eq!(from(&app, peer, None).await, want, "{peer}");
    }
    assert_eq!(gets(&app, ["/"]).await, [429], "a request without an address is not exempt");
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_exempt_by_the_address_that_the_proxy_reports() {
    let app = full(one().exempt_networks(ClientIp::behind(["10.0.0.0/8"]).unwrap(), ["192.0.2.0/24"])).await;
    for (peer, list, want) in [
        ("10.0.0.7", Some("192.0.2.9"), 200),
        ("10.0.0.7", Some("192.0.2.9, 198.51.100.1"), 429),
        ("10.0.0.7", Some("192.0.2.9, unknown"), 429),
        ("10.0.0.7", None, 429),
        ("198.51.100.1", Some("192.0.2.9"), 429),
    ] {
        assert_eq!(from(&app, peer, list).await, want, "{list:?} from {peer}");
    }
}

#[test]
fn a_mistake_in_exempt_networks_is_an_error_of_build() {
    let peer = ClientIp::peer;
    let everyone = |text: &str| ConfigError::ExemptsEveryone(text.into());
    for (builder, want) in [
        (
            one().exempt_networks(peer(), ["all"]).exempt_networks(peer(), ["::/0"]),
            ConfigError::InvalidNetwork("all".into()),
        ),
        (one().exempt_networks(peer(), [""; 0]), ConfigError::NoNetwork),
        (one().exempt_networks(peer(), ["192.0.2.0/24", "0.0.0.0/0"]), everyone("0.0.0.0/0")),
        (one().exempt_networks(peer(), ["0.0.0.0/1", "128.0.0.0/1"]), everyone("0.0.0.0/0")),
        (one().exempt_networks(peer(), Networks::new(["::/0"]).unwrap()), everyone("::/0")),
        (one().exempt_networks(peer().forwarded(), ["192.0.2.1"]), ConfigError::AddressHeaderWithoutProxy),
        (one().enabled(false).exempt_networks(peer(), ["::/0"]), everyone("::/0")),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error, want);
        assert!(error.to_string().contains("write"), "{error}");
    }
}

#[tokio::test]
async fn grpc_health_checks_and_reflection_are_exempt_if_that_is_asked_for() {
    const HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
    const REFLECTION: [&str; 2] = [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    for (builder, health, reflection) in [
        (one(), 429, 429),
        (one().exempt_grpc_health(), 200, 429),
        (one().exempt_grpc_reflection(), 429, 200),
        (one().exempt_grpc_reflection().exempt_grpc_health(), 200, 200),
    ] {
        let app = full(builder).await;
        assert_eq!((gets(&app, HEALTH).await, gets(&app, REFLECTION).await), ([health; 2], [reflection; 2]));
        let others = [
            "/grpc.health.v1.Health",
            "/grpc.health.v1.Health/",
            "/grpc.health.v1.Health/a/b",
            "/grpc.health.v1.HealthCheck/Check",
            "/x/grpc.health.v1.Health/Check",
            "/grpc.health.v2.Health/Check",
            "/grpc.reflection.v1.ServerReflection/",
            "/helloworld.Greeter/grpc.health.v1.Health",
        ];
        assert_eq!(gets(&app, others).await, [429; 8]);
    }
}

#[tokio::test]
async fn only_the_listed_methods_are_limited_and_get_includes_head() {
    let posts = app(one().methods([Method::POST]).methods([Method::PUT]));
    assert_eq!(gets(&posts, ["/"; 3]).await, [200; 3]);
    assert_eq!(send(&posts, Method::PUT, "/").await, 200);
    for method in [Method::POST, Method::PUT] {
        assert_eq!(send(&posts, method, "/").await, 429);
    }
    let reads = app(one().methods([Method::GET]));
    assert_eq!(send(&reads, Method::HEAD, "/").await, 200);
    assert_eq!(send(&reads, Method::GET, "/").await, 429, "HEAD was charged");
    assert_eq!(send(&reads, Method::HEAD, "/").await, 429);
    assert_eq!(send(&reads, Method::DELETE, "/").await, 200);
    assert_eq!(one().methods([]).build().unwrap_err(), ConfigError::NoMethod);
}

#[tokio::test]
async fn a_layer_that_is_off_limits_nothing_and_still_reports_mistakes() {
    for (layer, want) in [
        (one().enabled(false).build().unwrap(), [200; 3]),
        (RateLimitLayer::disabled(), [200; 3]),
        (one().enabled(false).enabled(true).build().unwrap(), [200, 429, 429]),
    ] {
        let app = Router::new().route("/", get(async || "hello")).layer(layer);
        assert_eq!(gets(&app, ["/"; 3]).await, want);
    }
    assert_eq!(RateLimitLayer::builder().enabled(false).build().unwrap_err(), ConfigError::NoQuota);
}

#[tokio::test]
async fn an_exempt_answer_carries_no_fields() {
    let app = app(one().headers(RateLimitHeaders::Draft8).exempt_paths(["/health"]));
    for (path, has_fields) in [("/health", false), ("/", true)] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = within(app.clone().oneshot(request)).await.unwrap();
        assert_eq!(answer.headers().contains_key("ratelimit"), has_fields, "{path}");
    }
}

#[tokio::test]
async fn a_handler_reads_the_decision_only_if_that_is_asked_for() {
    // With and without a wait before the decision.
    let looked_up = || one().key_lookup(|_| async { Ok::<u64, tower_weir::key::MissingKey>(7) });
    for (builder, want) in [
        (one().decision_in_request(true), "0"),
        (looked_up().decision_in_request(true), "0"),
        (one(), "none"),
        (looked_up(), "none"),
        (one().decision_in_request(true).enabled(false), "none"),
    ] {
        let handler = async |request: Request<Body>| {
            let decision = request.extensions().get::<Decision>();
            decision.map_or("none".to_owned(), |decision| decision.remaining().to_string())
        };
        let app = Router::new().route("/", get(handler)).layer(builder.build().unwrap());
        let answer = within(app.oneshot(Request::get("/").body(Body::empty()).unwrap())).await.unwrap();
        assert_eq!(within(axum::body::to_bytes(answer.into_body(), 99)).await.unwrap(), want);
    }
}

#[tokio::test]
async fn quotas_are_read_from_text_and_a_mistake_is_an_error_of_build() {
    let error = RateLimitLayer::builder().quotas(["10/s", "many", "more"]).build().unwrap_err();
    assert_eq!(error, ConfigError::InvalidQuota("many".into()));
    let quota: Quota = "2/s".parse().unwrap();
    let texts = vec!["3/min".to_owned()];
    let app = app(RateLimitLayer::builder().key(Global).quotas([quota]).quotas(texts).quota("9/h".parse().unwrap()));
    assert_eq!(gets(&app, ["/"; 3]).await, [200, 200, 429]);
}

/// A base with headers, body and exemptions serves several routes; a shared store is given as it is.
#[tokio::test]
async fn a_builder_is_a_base_for_several_layers() {
    let rl = RateLimiter::builder().build().unwrap();
    let base = one().exempt_paths(["/health"]).limiter(Arc::new(rl.local().clone()));
    let [a, b] = ["a", "b"].map(|name| app(base.clone().name(name)));
    assert_eq!(gets(&a, ["/", "/", "/health"]).await, [200, 429, 200]);
    assert_eq!(gets(&b, ["/", "/", "/health"]).await, [200, 429, 200]);
}

#[test]
fn the_head_of_a_request_has_the_same_address_as_the_request() {
    let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let (parts, ()) = Request::post("/a").extension(peer).body(()).unwrap().into_parts();
    let view = RequestView::from(&parts);
    assert_eq!((view.method(), view.uri().path()), (&Method::POST, "/a"));
    assert_eq!(ClientIp::peer().address(&view), Ok(peer.ip()));
}

#[test]
fn a_daily_layer_has_a_daily_quota() {
    let layer = format!("{:?}", RateLimitLayer::per_day(5));
    assert!(layer.contains("86400000"), "{layer}");
}

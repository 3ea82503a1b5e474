//! The layer on axum: real servers where the wire matters, routers called directly where it does not.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
use axum::routing::get;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;
use tower_weir::key::Header;
use tower_weir::layer::OnMissingKey;
use tower_weir::{
    ClientIp, ConfigError, Global, ManualClock, Quota, RateLimitLayer, RateLimitLayerBuilder, RateLimiter,
};

use crate::support::http::{retry_after, within};

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// A client with a connection pool of its own, and so with connections of its own.
fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn fetch(client: &HttpClient, addr: SocketAddr) -> Response<Bytes> {
    let request = Request::get(format!("http://{addr}/")).body(Empty::new()).unwrap();
    let (parts, body) = within(client.request(request)).await.unwrap().into_parts();
    Response::from_parts(parts, within(body.collect()).await.unwrap().to_bytes())
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    addr
}

async fn serve_without_connect_info(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    addr
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// A request as the server passes it on: with the peer's address in its extensions.
fn from(peer: &str, path: &str) -> Request<Body> {
    let peer: SocketAddr = peer.parse().unwrap();
    Request::get(path).extension(ConnectInfo(peer)).body(Body::empty()).unwrap()
}

const PEER: &str = "192.0.2.1:4000";

async fn ask(app: &Router, request: Request<Body>) -> Response<Body> {
    within(app.clone().oneshot(request)).await.unwrap()
}

async fn statuses(app: &Router, requests: impl IntoIterator<Item = Request<Body>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(ask(app, request).await.status().as_u16());
    }
    statuses
}

fn quota(text: &str) -> Quota {
    text.parse().unwrap()
}

/// Everything a refusal promises, whatever its status.
fn assert_is_refusal<B>(response: &Response<B>) {
    assert!(response.status().is_client_error() || response.status().is_server_error());
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_of_one_client_are_admitted_exactly_the_quota() {
    const CONNECTIONS: usize = 16;
    const REQUESTS: usize = 25;
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    let handler = async move || {
        counter.fetch_add(1, Ordering::SeqCst);
        "hello"
    };
    let addr = serve(Router::new().route("/", get(handler)).layer(RateLimitLayer::per_minute(50))).await;

    let connections = (0..CONNECTIONS).map(|_| {
        tokio::spawn(async move {
            let client = client();
            let mut answers = Vec::new();
            for _ in 0..REQUESTS {
                answers.push(fetch(&client, addr).await);
            }
            answers
        })
    });
    let answers: Vec<_> = join_all(connections).await.into_iter().flat_map(Result::unwrap).collect();

    let (admitted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status() == 200);
    assert_eq!((admitted.len(), refused.len()), (50, CONNECTIONS * REQUESTS - 50));
    assert_eq!(served.load(Ordering::SeqCst), 50, "a refused request reached the handler");
    assert!(admitted.iter().all(|answer| answer.body() == "hello" && retry_after(answer).is_none()));
    for answer in refused {
        assert_eq!(answer.status(), 429);
        assert_is_refusal(answer);
        assert!((1..=61).contains(&retry_after(answer).unwrap()));
        assert!(!answer.body().is_empty());
    }
}

#[tokio::test]
async fn a_client_that_waits_as_told_is_admitted() {
    let addr = serve(hello().layer(RateLimitLayer::per_second(3))).await;
    let (client, mut wait) = (client(), 0);
    for round in 0..2 {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        assert_eq!(fetch(&client, addr).await.status(), 200, "round {round}");
        // Two more, or some where the machine is so slow that the window moves on.
        let mut answer = fetch(&client, addr).await;
        for _ in 0..100 {
            if answer.status() != 200 {
                break;
            }
            answer = fetch(&client, addr).await;
        }
        assert_eq!(answer.status(), 429, "round {round}");
        wait = retry_after(&answer).unwrap();
        assert!((1..=2).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn a_server_that_records_no_peer_does_as_it_was_told() {
    for (policy, want) in [
        (OnMissingKey::Reject, [500, 500, 500]),
        (OnMissingKey::Shared, [200, 200, 429]),
        (OnMissingKey::Allow, [200, 200, 200]),
    ] {
        let layer = RateLimitLayer::builder().quota(quota("2/min")).on_missing_key(policy).build().unwrap();
        let addr = serve_without_connect_info(hello().layer(layer)).await;
        for want in want {
            let answer = fetch(&client(), addr).await;
            assert_eq!(answer.status(), want, "{policy:?}");
            if want != 200 {
                assert_is_refusal(&answer);
                assert_eq!(retry_after(&answer).is_some(), want == 429, "waiting does not mend a server");
            }
        }
    }
}

#[tokio::test]
async fn requests_without_a_key_share_a_budget_that_no_client_can_name() {
    let layer = RateLimitLayer::builder().quota(quota("1/min")).key(Header::new("x-api-key"));
    let app = hello().layer(layer.on_missing_key(OnMissingKey::Shared).build().unwrap());
    let named = || Request::get("/").header("x-api-key", "missing key").body(Body::empty()).unwrap();
    assert_eq!(statuses(&app, [from(PEER, "/"), named(), from(PEER, "/"), named()]).await, [200, 200, 429, 429]);
}

#[tokio::test]
async fn a_mocked_peer_counts_where_no_real_one_is_known() {
    let layer = RateLimitLayer::per_minute(1);
    let mock = |peer: [u8; 4]| MockConnectInfo(SocketAddr::from((peer, 1)));
    let [one, two] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|peer| hello().layer(layer.clone()).layer(mock(peer)));
    let plain = || Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(statuses(&one, [plain(), plain()]).await, [200, 429]);
    assert_eq!(statuses(&two, [plain(), plain()]).await, [200, 429]);
    assert_eq!(statuses(&two, [from("192.0.2.3:1", "/")]).await, [200], "the real peer wins over the mock");
}

#[tokio::test]
async fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
    for (first, second, is_same) in [
        ("192.0.2.1:1", "192.0.2.1:2", true),
        ("192.0.2.1:1", "192.0.2.2:1", false),
        ("192.0.2.1:1", "[::ffff:192.0.2.1]:1", true),
        ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", false),
        ("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:9", true),
        ("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false),
    ] {
        let layer = RateLimitLayer::per_minute(1);
        let app = |peer: &str| hello().layer(layer.clone()).layer(MockConnectInfo::<SocketAddr>(peer.parse().unwrap()));
        let plain = || Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(statuses(&app(first), [plain()]).await, [200]);
        let want = if is_same { 429 } else { 200 };
        assert_eq!(statuses(&app(second), [plain()]).await, [want], "{first} and {second}");
    }
}

#[tokio::test]
async fn each_header_value_has_a_budget_and_its_absence_is_the_clients_mistake() {
    let layer = RateLimitLayer::builder().quota(quota("2/min")).key(Header::new("X-Api-Key")).build().unwrap();
    let app = hello().layer(layer);
    let with = |key: &str| Request::get("/").header("x-api-key", key).body(Body::empty()).unwrap();
    assert_eq!(statuses(&app, ["a", "a", "a", "b", "b", "b"].map(with)).await, [200, 200, 429, 200, 200, 429]);
    let refused = ask(&app, from(PEER, "/")).await;
    assert_eq!(refused.status(), 400);
    assert_is_refusal(&refused);
    assert_eq!(retry_after(&refused), None);
}

#[tokio::test]
async fn a_closure_can_be_the_key() {
    let tenant = |path: &str| path.split('/').nth(1).filter(|name| !name.is_empty()).map(str::to_owned);
    let layer = RateLimitLayer::builder().quota(quota("1/min")).key_fn(move |req| tenant(req.uri().path()));
    let app = Router::new().fallback(async || "hello").layer(layer.build().unwrap());
    let paths = ["/a/x", "/a/y", "/b/x", "/", "/b"];
    assert_eq!(statuses(&app, paths.map(|path| from(PEER, path))).await, [200, 429, 200, 400, 429]);
}

#[tokio::test]
async fn two_keys_joined_give_each_pair_a_budget() {
    let key = (ClientIp::peer(), Header::new("x-api-key"));
    let app = hello().layer(RateLimitLayer::builder().quota(quota("1/min")).key(key).build().unwrap());
    let with = |(peer, key): (&str, &str)| {
        let mut request = from(peer, "/");
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        request
    };
    let (a, b) = ("192.0.2.1:1", "192.0.2.2:1");
    let asked = [(a, "x"), (a, "x"), (a, "y"), (b, "x"), (b, "x")];
    assert_eq!(statuses(&app, asked.map(with)).await, [200, 429, 200, 200, 429]);
}

#[tokio::test]
async fn the_routes_under_one_layer_count_together() {
    let app = Router::new()
        .route("/a", get(async || "a"))
        .route("/b", get(async || "b"))
        .nest("/deep", Router::new().route("/c", get(async || "c")))
        .layer(RateLimitLayer::per_minute(3));
    let paths = ["/a", "/b", "/deep/c", "/a", "/b", "/deep/c"];
    assert_eq!(statuses(&app, paths.map(|path| from(PEER, path))).await, [200, 200, 200, 429, 429, 429]);
}

#[tokio::test]
async fn a_nested_router_can_be_limited_alone() {
    let limited = Router::new().route("/c", get(async || "c")).layer(RateLimitLayer::per_minute(1));
    let app = Router::new().route("/free", get(async || "free")).nest("/deep", limited);
    let paths = ["/deep/c", "/deep/c", "/free", "/free"];
    assert_eq!(statuses(&app, paths.map(|path| from(PEER, path))).await, [200, 429, 200, 200]);
}

#[tokio::test]
async fn unknown_paths_are_charged_by_layer_and_free_by_route_layer() {
    let charged = hello().layer(RateLimitLayer::per_minute(1));
    let free = hello().route_layer(RateLimitLayer::per_minute(1));
    let paths = || ["/nothing", "/nothing", "/", "/"].map(|path| from(PEER, path));
    assert_eq!(statuses(&charged, paths()).await, [404, 429, 429, 429]);
    assert_eq!(statuses(&free, paths()).await, [404, 404, 200, 429]);
}

#[tokio::test]
async fn stacked_limits_of_one_limiter_hold_side_by_side() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let all = RateLimitLayer::builder().name("all").key(Global).quota(quota("3/min")).limiter(rl.local());
    let each = RateLimitLayer::builder().name("each").quota(quota("2/min")).limiter(rl.local());
    let app = hello().layer(all.build().unwrap()).layer(each.build().unwrap());
    let peers = ["192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.2:1", "192.0.2.3:1"];
    // What the outer limit refuses must not be charged to the inner one.
    assert_eq!(statuses(&app, peers.map(|peer| from(peer, "/"))).await, [200, 200, 429, 200, 429, 429]);
}

#[tokio::test]
async fn a_name_decides_whether_limits_of_one_limiter_share_their_budgets() {
    for (names, want) in [
        (["same", "same"], [200, 200, 429, 200, 200, 200, 429]),
        (["one", "other"], [200, 200, 429, 200, 200, 200, 200]),
    ] {
        let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
        let layer = |name: &str, text| {
            RateLimitLayer::builder().name(name).quota(quota(text)).limiter(rl.local()).build().unwrap()
        };
        let app = Router::new()
            .route("/dear", get(async || "dear").layer(layer(names[0], "2/min")))
            .route("/cheap", get(async || "cheap").layer(layer(names[1], "5/h")));
        let paths = ["/dear", "/dear", "/dear", "/cheap", "/cheap", "/cheap", "/cheap"];
        assert_eq!(statuses(&app, paths.map(|path| from(PEER, path))).await, want, "{names:?}");
    }
}

#[tokio::test]
async fn several_quotas_admit_only_what_fits_all_of_them() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let layer = RateLimitLayer::builder().quota(quota("2/s")).quota(quota("3/h")).limiter(rl.local());
    let app = hello().layer(layer.build().unwrap());
    let burst = || (0..3).map(|_| from(PEER, "/"));
    assert_eq!(statuses(&app, burst()).await, [200, 200, 429]);
    assert_eq!(retry_after(&ask(&app, from(PEER, "/")).await), Some(2), "the quota per second binds");
    clock.advance(Duration::from_secs(2));
    assert_eq!(statuses(&app, burst()).await, [200, 429, 429]);
    let wait = retry_after(&ask(&app, from(PEER, "/")).await).unwrap();
    assert!((3_590..=3_601).contains(&wait), "the quota per hour binds, {wait} s");
}

#[tokio::test]
async fn a_limit_of_zero_refuses_everything_and_promises_nothing() {
    let none = RateLimitLayer::builder().quota(Quota::reject_all()).build().unwrap();
    for layer in [RateLimitLayer::per_second(0), RateLimitLayer::per_minute(0), RateLimitLayer::per_hour(0), none] {
        let app = hello().layer(layer);
        for _ in 0..3 {
            let refused = ask(&app, from(PEER, "/")).await;
            assert_eq!(refused.status(), 429);
            assert_is_refusal(&refused);
            assert_eq!(retry_after(&refused), None, "no wait can help");
        }
    }
}

/// One client that hammers at one instant: how many were admitted, and the statuses of the others.
async fn overload(builder: RateLimitLayerBuilder, requests: usize) -> (usize, Vec<u16>) {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let app = hello().layer(builder.quota(quota("10/min")).limiter(rl.local()).build().unwrap());
    let (mut admitted, mut refused) = (0, Vec::new());
    for _ in 0..requests {
        let answer = ask(&app, from(PEER, "/")).await;
        if answer.status() == 200 {
            admitted += 1;
            continue;
        }
        assert_is_refusal(&answer);
        assert!(retry_after(&answer).unwrap() >= 1);
        refused.push(answer.status().as_u16());
    }
    (admitted, refused)
}

#[tokio::test]
async fn a_refusal_has_the_status_that_fits_whose_fault_it_is_or_the_one_it_was_given() {
    let new = RateLimitLayer::builder;
    for (builder, want) in [
        (new(), 429),
        (new().key(Global), 429),
        (new().status(503), 503),
        (new().shed_status(599), 429),
        (new().suppressed(1.5), 429),
        (new().suppressed(1.5).key(Global), 503),
        (new().suppressed(1.5).key((Global, Global)), 503),
        (new().suppressed(1.5).key((Global, ClientIp::peer())), 429),
        (new().suppressed(1.5).shed_status(400), 400),
        (new().suppressed(1.5).key(Global).shed_status(599), 599),
        (new().suppressed(1.5).status(599), 429),
    ] {
        let about = format!("{builder:?}, {want}");
        let (admitted, refused) = overload(builder, 100).await;
        assert!((10..=15).contains(&admitted), "{about}: {admitted} were admitted");
        assert!(refused.iter().all(|&status| status == want), "{about}: {refused:?}");
    }
    assert_eq!(overload(new(), 100).await.0, 10, "the absolute strategy is exact");
    assert_eq!(overload(new().suppressed(1.0), 100).await.0, 10, "so is a hard limit");
}

#[test]
fn a_configuration_that_cannot_work_is_a_typed_error_that_says_what_to_write() {
    let new = || RateLimitLayer::builder().quota(quota("1/s"));
    let many = |n: u64| (0..n).fold(RateLimitLayer::builder(), |it, n| it.quota(quota(&format!("1/{}s", n + 1))));
    let coarse = RateLimiter::builder().rate_group_size_ms(2_000.try_into().unwrap()).build().unwrap();
    let fine = RateLimiter::builder().rate_group_size_ms(1.try_into().unwrap()).build().unwrap();
    let day = RateLimitLayer::builder().quota(quota("1/d"));
    let bad_name = || ConfigError::InvalidHeaderName("api key".into());
    for (builder, want, advice) in [
        (RateLimitLayer::builder(), ConfigError::NoQuota, "write .quota("),
        (new().status(200), ConfigError::InvalidStatus(200), "from 400 to 599"),
        (new().status(399), ConfigError::InvalidStatus(399), "from 400 to 599"),
        (new().status(600), ConfigError::InvalidStatus(600), "from 400 to 599"),
        (new().shed_status(0), ConfigError::InvalidStatus(0), "from 400 to 599"),
        (new().suppressed(0.99), ConfigError::InvalidHardLimitFactor(0.99), "at least 1.0"),
        (new().suppressed(f64::INFINITY), ConfigError::InvalidHardLimitFactor(f64::INFINITY), "at least 1.0"),
        (new().key(Header::new("api key")), bad_name(), "letters, digits and hyphens"),
        (new().key((Global, Header::new("api key"))), bad_name(), "letters, digits and hyphens"),
        (many(9), ConfigError::TooManyQuotas { most: 8 }, "write fewer"),
        (
            new().limiter(coarse.local()),
            ConfigError::BucketExceedsWindow { bucket_ms: 2_000, window_ms: 1_000 },
            "write rate_group_size_ms(1000) or less",
        ),
        (
            day.limiter(fine.local()),
            ConfigError::WindowTooLong { window_ms: 86_400_000, least_bucket_ms: 6 },
            "write rate_group_size_ms(6) or more",
        ),
    ] {
        let error = builder.build().expect_err(advice);
        assert_eq!(error, want);
        assert!(error.to_string().contains(advice), "{error}");
    }
    let nan = new().suppressed(f64::NAN).build().unwrap_err();
    assert!(matches!(nan, ConfigError::InvalidHardLimitFactor(factor) if factor.is_nan()));
    assert!(many(8).build().is_ok());
}

#[test]
fn the_advice_of_a_configuration_error_works() {
    let day = |ms: u64| {
        let rl = RateLimiter::builder().rate_group_size_ms(ms.try_into().unwrap()).build().unwrap();
        RateLimitLayer::builder().quota(quota("1/d")).limiter(rl.local()).build()
    };
    let Err(ConfigError::WindowTooLong { least_bucket_ms, .. }) = day(1) else { panic!("1 ms is too fine") };
    assert!(day(least_bucket_ms).is_ok());
    assert!(day(least_bucket_ms - 1).is_err());
}

#[test]
fn limits_in_use_of_one_name_have_at_most_eight_windows_between_them() {
    let rl = RateLimiter::builder().build().unwrap();
    let layer = |name: &str, seconds: u64| {
        let quota = Quota::new(1, Duration::from_secs(seconds)).unwrap();
        RateLimitLayer::builder().name(name).quota(quota).limiter(rl.local()).build()
    };
    let in_use: Vec<_> = (1..=8).map(|seconds| layer("a", seconds).unwrap()).collect();
    assert_eq!(layer("a", 9).unwrap_err(), ConfigError::TooManyQuotas { most: 8 });
    assert!(layer("a", 3).is_ok(), "a window that is in use costs nothing");
    assert!(layer("b", 9).is_ok(), "a name of its own helps, as the message says");
    drop(in_use);
    assert!(layer("a", 9).is_ok(), "a window that nobody uses any more takes no place");
}

#[tokio::test]
async fn a_head_request_is_refused_with_no_body_on_the_wire() {
    let addr = serve(hello().layer(RateLimitLayer::per_minute(1))).await;
    let client = client();
    let head = || Request::head(format!("http://{addr}/")).body(Empty::new()).unwrap();
    for want in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS] {
        let answer = within(client.request(head())).await.unwrap();
        assert_eq!(answer.status(), want);
        assert!(within(answer.into_body().collect()).await.unwrap().to_bytes().is_empty());
    }
}

/// As the page on the order of layers has it.
#[tokio::test]
async fn layer_counts_what_no_route_matches_and_route_layer_does_not() {
    let get = |path: &str| from(PEER, path);
    let delete = || {
        let mut request = from(PEER, "/");
        *request.method_mut() = http::Method::DELETE;
        request
    };
    let requests = || [get("/nowhere"), delete(), get("/"), get("/nowhere")];
    let all = hello().layer(RateLimitLayer::per_minute(2));
    assert_eq!(statuses(&all, requests()).await, [404, 405, 429, 429]);
    let routes = hello().route_layer(RateLimitLayer::per_minute(1));
    assert_eq!(statuses(&routes, requests()).await, [404, 405, 429, 404]);
    let before = hello().layer(RateLimitLayer::per_minute(1)).route("/late", axum::routing::get(async || "late"));
    assert_eq!(statuses(&before, [get("/"), get("/"), get("/late")]).await, [200, 429, 200]);
}

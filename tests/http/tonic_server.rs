//! The layer on tonic: a real server, real clients, and the bytes that a refusal puts on the wire.
#![cfg(feature = "tonic")]
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::LayerExt;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};
use tonic_types::StatusExt;
use tower::{Layer, Service, ServiceExt};
use tower_weir::key::Header;
use tower_weir::layer::OnMissingKey;
use tower_weir::{ClientIp, Global, ManualClock, RateLimitLayer, RateLimiter};

use crate::support::http::{retry_after, within};

fn health() -> HealthServer<impl Health> {
    HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()))
}

/// Runs a server on a free port.
async fn start<F>(run: impl FnOnce(TcpIncoming) -> F) -> SocketAddr
where
    F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = run(TcpIncoming::from(listener));
    tokio::spawn(async move { server.await.unwrap() });
    addr
}

/// A `HealthCheckRequest` that asks for the server as a whole: no flags, and a message of no bytes.
fn empty_message() -> Full<Bytes> {
    Full::new(Bytes::from_static(&[0; 5]))
}

/// A new connection.
async fn connect(addr: SocketAddr) -> Channel {
    within(Endpoint::from_shared(format!("http://{addr}")).unwrap().connect()).await.unwrap()
}

async fn check(channel: Channel) -> Result<(), Status> {
    within(HealthClient::new(channel).check(HealthCheckRequest::default())).await.map(drop)
}

async fn codes(channel: &Channel, calls: usize) -> Vec<Code> {
    let mut codes = Vec::new();
    for _ in 0..calls {
        codes.push(check(channel.clone()).await.map_or_else(|status| status.code(), |()| Code::Ok));
    }
    codes
}

fn assert_is_refusal(status: &Status) -> u64 {
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "rate limit exceeded");
    let wait = status.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!(wait >= 1);
    wait
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_calls_of_one_client_are_admitted_exactly_the_quota() {
    const CONNECTIONS: usize = 4;
    const CALLS: usize = 50;
    let layer = RateLimitLayer::per_minute(50);
    let addr =
        start(|incoming| Server::builder().layer(layer).add_service(health()).serve_with_incoming(incoming)).await;

    let mut calls = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = connect(addr).await;
        calls.extend((0..CALLS).map(|_| tokio::spawn(check(channel.clone()))));
    }
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();

    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), CONNECTIONS * CALLS - 50, "{:?}", refused.first());
    assert!(refused.into_iter().all(|status| assert_is_refusal(status) <= 61));
}

#[tokio::test]
async fn a_client_that_waits_as_told_is_admitted() {
    let layer = RateLimitLayer::per_second(2);
    let addr =
        start(|incoming| Server::builder().layer(layer).add_service(health()).serve_with_incoming(incoming)).await;
    let (channel, mut wait) = (connect(addr).await, 0);
    for round in 0..2 {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        check(channel.clone()).await.unwrap_or_else(|status| panic!("round {round}: {status}"));
        // One more, or some where the machine is so slow that the window moves on.
        let mut answer = check(channel.clone()).await;
        for _ in 0..100 {
            if answer.is_err() {
                break;
            }
            answer = check(channel.clone()).await;
        }
        wait = assert_is_refusal(&answer.unwrap_err());
        assert!(wait <= 2, "{wait}");
    }
}

const OTHER: &str = "weir.test.Other";

/// The health service under another name, so that one server has two.
#[derive(Clone)]
struct Other<S>(S);

impl<S> NamedService for Other<S> {
    const NAME: &'static str = OTHER;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Other<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(rename(request, OTHER, "grpc.health.v1.Health"))
    }
}

fn rename(mut request: Request<Body>, from: &str, to: &str) -> Request<Body> {
    let uri = request.uri().to_string().replace(from, to);
    *request.uri_mut() = uri.parse::<Uri>().unwrap();
    request
}

async fn other_codes(channel: &Channel, calls: usize) -> Vec<Code> {
    let renamed = channel.clone().map_request(|request| rename(request, "grpc.health.v1.Health", OTHER));
    let mut client = HealthClient::new(renamed);
    let mut codes = Vec::new();
    for _ in 0..calls {
        let answer = within(client.check(HealthCheckRequest::default())).await;
        codes.push(answer.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    codes
}

#[tokio::test]
async fn one_service_of_a_server_can_be_limited_alone() {
    let limited = RateLimitLayer::per_minute(1).named_layer(health());
    let free = Other(health());
    let addr =
        start(|incoming| Server::builder().add_service(limited).add_service(free).serve_with_incoming(incoming)).await;
    let channel = connect(addr).await;
    assert_eq!(codes(&channel, 3).await, [Code::Ok, Code::ResourceExhausted, Code::ResourceExhausted]);
    assert_eq!(other_codes(&channel, 3).await, [Code::Ok; 3]);
}

#[tokio::test]
async fn two_services_of_a_server_can_have_limits_of_their_own() {
    let one = RateLimitLayer::per_minute(1).named_layer(health());
    let two = RateLimitLayer::per_minute(2).named_layer(Other(health()));
    let addr =
        start(|incoming| Server::builder().add_service(one).add_service(two).serve_with_incoming(incoming)).await;
    let channel = connect(addr).await;
    assert_eq!(codes(&channel, 2).await, [Code::Ok, Code::ResourceExhausted]);
    assert_eq!(other_codes(&channel, 3).await, [Code::Ok, Code::Ok, Code::ResourceExhausted]);
}

#[tokio::test]
async fn a_refusal_ends_its_stream_with_its_headers() {
    let layer = RateLimitLayer::per_minute(1);
    let addr =
        start(|incoming| Server::builder().layer(layer).add_service(health()).serve_with_incoming(incoming)).await;
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    let request = || {
        let uri = format!("http://{addr}/grpc.health.v1.Health/Check");
        let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        request.body(empty_message()).unwrap()
    };
    let admitted = within(sender.send_request(request())).await.unwrap();
    assert!(!admitted.headers().contains_key("grpc-status") && !admitted.body().is_end_stream());
    let trailers = within(admitted.into_body().collect()).await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "0");

    let refused = within(sender.send_request(request())).await.unwrap();
    assert_eq!(refused.status(), 200, "a gRPC client reads nothing of an HTTP error but that it is one");
    assert!(refused.body().is_end_stream(), "the stream goes on after the headers");
    assert_eq!(refused.headers()["content-type"], "application/grpc");
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(refused.headers()["grpc-message"], "rate limit exceeded");
    assert_eq!(refused.headers()["cache-control"], "no-store");
    assert!((1..=61).contains(&retry_after(&refused).unwrap()));
    let body = within(refused.into_body().collect()).await.unwrap();
    assert!(body.trailers().is_none() && body.to_bytes().is_empty());
}

#[tokio::test]
async fn a_client_reads_the_wait_and_the_quota_from_the_details() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let limit = RateLimitLayer::builder().name("burst").quota("2/min".parse().unwrap()).message("100% é");
    let limit = limit.limiter(rl.local()).build().unwrap();
    let addr =
        start(|incoming| Server::builder().layer(limit).add_service(health()).serve_with_incoming(incoming)).await;
    let channel = connect(addr).await;
    assert_eq!(codes(&channel, 2).await, [Code::Ok; 2]);

    let status = check(channel.clone()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "100% é"));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, Duration::from_millis(60_010), "to the millisecond, unlike Retry-After");
    let pushback: Vec<_> = status.metadata().get_all("grpc-retry-pushback-ms").iter().collect();
    assert_eq!(pushback, ["60010"]);
    let failure = status.get_details_quota_failure().unwrap();
    let [violation] = &failure.violations[..] else { panic!("{failure:?}") };
    assert_eq!((violation.subject.as_str(), violation.description.as_str()), ("policy:burst", "limit 2 per 60s"));

    clock.advance(wait - Duration::from_millis(1));
    assert_eq!(codes(&channel, 1).await, [Code::ResourceExhausted]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(codes(&channel, 1).await, [Code::Ok]);
}

#[tokio::test]
async fn an_overload_and_a_missing_key_blame_no_quota() {
    let new = || RateLimitLayer::builder().quota("1/min".parse().unwrap());
    for (builder, want, has_wait) in [
        (new().key(Global).suppressed(1.0), (Code::Unavailable, "overloaded"), true),
        (new().key(Header::new("x-api-key")), (Code::InvalidArgument, "missing rate limit key"), false),
    ] {
        let layer = builder.build().unwrap();
        let addr =
            start(|incoming| Server::builder().layer(layer).add_service(health()).serve_with_incoming(incoming)).await;
        let channel = connect(addr).await;
        let _first = check(channel.clone()).await;
        let status = check(channel).await.unwrap_err();
        assert_eq!((status.code(), status.message()), want);
        assert_eq!(status.get_details_retry_info().is_some(), has_wait);
        assert_eq!(status.metadata().contains_key("grpc-retry-pushback-ms"), has_wait);
        assert!(status.get_details_quota_failure().is_none());
    }
}

/// The `grpc-status` in the headers, or "0" where the call went through.
async fn grpc_status<S, B>(service: S, mut request: Request<Body>) -> String
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = within(service.oneshot(request)).await.unwrap();
    let status = response.headers().get("grpc-status");
    status.map_or("0", |status| status.to_str().unwrap()).to_owned()
}

fn call_from(peer: Option<&str>) -> Request<Body> {
    let remote_addr = peer.map(|peer| peer.parse().unwrap());
    let info = TcpConnectInfo { local_addr: None, remote_addr };
    let post = Request::post("/grpc.health.v1.Health/Check").version(http::Version::HTTP_2);
    post.extension(info).body(Body::new(empty_message())).unwrap()
}

#[tokio::test]
async fn the_default_key_is_the_peer_that_tonic_records() {
    let limited = RateLimitLayer::per_minute(1).layer(health());
    for (peer, want) in [
        (Some("192.0.2.1:1"), "0"),
        (Some("192.0.2.1:2"), "8"),
        (Some("192.0.2.2:1"), "0"),
        (Some("[::ffff:192.0.2.2]:1"), "8"),
        (Some("[2001:db8::1]:1"), "0"),
        (Some("[2001:db8::2]:1"), "8"),
        (None, "13"),
    ] {
        assert_eq!(grpc_status(limited.clone(), call_from(peer)).await, want, "{peer:?}");
    }
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_not_the_peer_that_tonic_records() {
    let builder = RateLimitLayer::builder().quota("1/min".parse().unwrap());
    let key = ClientIp::behind(["10.0.0.0/8", "unix:"]).unwrap();
    let limited = builder.key(key).build().unwrap().layer(health());
    for (peer, list, want) in [
        (Some("10.0.0.5:1"), "203.0.113.9", "0"),
        (Some("10.0.0.6:1"), "6.6.6.6, 203.0.113.9", "8"),
        (Some("10.0.0.5:1"), "203.0.113.10", "0"),
        (Some("192.0.2.1:1"), "203.0.113.11", "0"),
        (Some("192.0.2.1:1"), "203.0.113.12", "8"),
        // A TCP peer whose address is not known is no Unix socket.
        (None, "203.0.113.13", "13"),
    ] {
        let mut call = call_from(peer);
        call.headers_mut().insert("x-forwarded-for", list.parse().unwrap());
        assert_eq!(grpc_status(limited.clone(), call).await, want, "{peer:?}: {list}");
    }
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_grpc_status() {
    let new = || RateLimitLayer::builder().quota("1/min".parse().unwrap());
    for (builder, want) in [
        (new(), ["13", "13"]),
        (new().on_missing_key(OnMissingKey::Shared), ["0", "8"]),
        (new().on_missing_key(OnMissingKey::Allow), ["0", "0"]),
        (new().key(Header::new("x-api-key")), ["3", "3"]),
        (new().key(Global), ["0", "8"]),
        (new().key(Global).status(503), ["0", "14"]),
        (new().key(Global).suppressed(1.0), ["0", "14"]),
        (new().key(Global).suppressed(1.0).shed_status(429), ["0", "8"]),
    ] {
        let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
        let about = format!("{builder:?}");
        let limited = builder.limiter(rl.local()).build().unwrap().layer(health());
        for want in want {
            assert_eq!(grpc_status(limited.clone(), call_from(None)).await, want, "{about}");
        }
    }
}

/// The inner limit refuses with the last unit of the outer one; a client reads the longer wait.
#[tokio::test]
async fn the_wait_of_a_stack_is_true_in_the_details_too() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let layer = |name: &str, quota: &str| {
        let quota = quota.parse().unwrap();
        RateLimitLayer::builder().key(Global).name(name).quota(quota).limiter(rl.local()).build().unwrap()
    };
    let (outer, inner) = (layer("out", "2/h"), layer("in", "1/s"));
    let serve =
        |incoming| Server::builder().layer(outer).layer(inner).add_service(health()).serve_with_incoming(incoming);
    let channel = connect(start(serve).await).await;
    check(channel.clone()).await.unwrap();
    let status = check(channel.clone()).await.unwrap_err();
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait >= Duration::from_secs(3_600), "{wait:?}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), &wait.as_millis().to_string());
    let failure = status.get_details_quota_failure().unwrap();
    assert_eq!(failure.violations[0].subject, "policy:in", "the rest of the details stays");
    clock.advance(wait);
    check(channel).await.unwrap();
}

/// A limit that admits nothing forbids a retry (gRFC A6).
#[tokio::test]
async fn a_call_that_no_wait_helps_is_not_to_be_retried() {
    let layer = RateLimitLayer::builder().key(Global).quota(tower_weir::Quota::reject_all()).build().unwrap();
    let addr =
        start(|incoming| Server::builder().layer(layer).add_service(health()).serve_with_incoming(incoming)).await;
    let status = check(connect(addr).await).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    assert!(status.get_details_retry_info().is_none());
}

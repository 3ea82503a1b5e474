//! Charges that depend on the response: kept, refunded or raised once, whatever ends the request.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::any;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::{BodyEnd, Charge, KeyControl, RateLimitHandle, ResponseView};
use tower_weir::{Global, Limit, ManualClock, RateLimitLayer, RateLimiter};

use crate::frames::{After, frames};
use crate::support::http::within;

fn layer(limit: Limit) -> RateLimitLayer {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    RateLimitLayer::builder().limit(limit).limiter(rl.local()).build().unwrap()
}

fn client() -> Limit {
    Limit::per(Header::new("x-client")).name("client")
}

fn key(layer: &RateLimitLayer) -> KeyControl {
    layer.control().limit("client").unwrap().key("a")
}

/// The units in use.
async fn used(layer: &RateLimitLayer) -> u64 {
    key(layer).usage().await.unwrap().unwrap().used()
}

fn request(path: &str) -> Request<Body> {
    Request::get(path).header("x-client", "a").body(Body::empty()).unwrap()
}

/// A service whose path states the status, such as `/401`.
fn app(layer: &RateLimitLayer) -> Router {
    let answer = async |request: Request<Body>| StatusCode::from_bytes(&request.uri().path().as_bytes()[1..]).unwrap();
    Router::new().fallback(any(answer)).layer(layer.clone())
}

async fn status(app: &Router, path: &str) -> u16 {
    within(app.clone().oneshot(request(path))).await.unwrap().status().as_u16()
}

/// Counts only responses with 401.
fn failures(charge: &mut Charge, response: &ResponseView<'_>) {
    if response.status() != StatusCode::UNAUTHORIZED {
        charge.refund();
    }
}

#[tokio::test]
async fn only_the_responses_that_a_function_keeps_count() {
    let layer = layer(client().quota("3/15min").settle(failures));
    let app = app(&layer);
    for (path, want, in_use) in [
        ("/200", 200, 0),
        ("/401", 401, 1),
        ("/304", 304, 1),
        ("/500", 500, 1),
        ("/401", 401, 2),
        ("/200", 200, 2),
        ("/401", 401, 3),
        ("/200", 429, 3),
        ("/401", 429, 3),
    ] {
        assert_eq!((status(&app, path).await, used(&layer).await), (want, in_use), "{path}");
    }
}

/// A refund leaves room for others at once, and is not given twice.
#[tokio::test]
async fn a_handler_and_a_function_refund_together_no_more_than_was_charged() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let limit = client().quota("100/h").cost(|_| 10).settle(|charge, _| charge.refund());
    let layer = RateLimitLayer::builder().limit(limit).handle(true).limiter(rl.local()).build().unwrap();
    let handler = async |limits: RateLimitHandle| {
        assert_eq!(limits.refund("client", 4), 4);
        assert!(limits.charge("client", 20).await.unwrap().is_allowed());
        assert_eq!(limits.refund("client", 7), 7);
    };
    let app = Router::new().fallback(any(handler)).layer(layer.clone());
    key(&layer).set(5).await.unwrap();
    assert_eq!(status(&app, "/").await, 200);
    assert_eq!(used(&layer).await, 5, "10 - 4 + 20 - 7 are refunded, and none of the other five");
}

#[tokio::test]
async fn a_charge_is_raised_if_it_fits_and_otherwise_stays() {
    let raise = |charge: &mut Charge, response: &ResponseView<'_>| {
        assert_eq!(charge.units(), 2);
        charge.set(u64::from(response.status().as_u16()) - 190);
    };
    let layer = layer(client().quota("30/h").cost(|_| 2).settle(raise));
    let app = app(&layer);
    for (path, in_use) in [("/200", 10), ("/204", 24), ("/205", 26), ("/203", 28), ("/202", 30)] {
        assert_eq!((status(&app, path).await, used(&layer).await), (path[1..].parse().unwrap(), in_use), "{path}");
    }
    assert_eq!(status(&app, "/200").await, 429);
}

/// The end refunds what the head has raised, if it did.
#[tokio::test]
async fn the_end_settles_after_the_head() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let limit = client().quota("100/h").settle(|charge, _| charge.set(50)).settle_at_end(move |charge, end| {
        sees.lock().unwrap().push(charge.units());
        charge.set(end.bytes());
    });
    let layer = layer(limit);
    let app = Router::new().fallback(any(async || "1234567")).layer(layer.clone());
    for (before, raised, after) in [(0, 50, 7), (60, 61, 67)] {
        key(&layer).set(before).await.unwrap();
        let response = within(app.clone().oneshot(request("/"))).await.unwrap();
        assert_eq!(used(&layer).await, raised);
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "1234567");
        assert_eq!(used(&layer).await, after);
    }
    assert_eq!(*seen.lock().unwrap(), [50, 1], "the second raise did not fit");
}

#[tokio::test]
async fn a_limit_in_shadow_is_settled_too_and_the_layer_settles_for_limits_without_a_function() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let layer = RateLimitLayer::builder()
        .limit(client().quota("2/h").shadow())
        .limit(Limit::per(Global).quota("100/h").name("all").settle(|_, _| {}))
        .settle(failures)
        .limiter(rl.local())
        .build()
        .unwrap();
    let app = app(&layer);
    let all = layer.control().limit("all").unwrap().global();
    for (path, client, service) in [("/200", 0, 1), ("/401", 1, 2), ("/401", 2, 3), ("/200", 2, 4), ("/401", 2, 5)] {
        status(&app, path).await;
        assert_eq!((used(&layer).await, all.usage().await.unwrap().unwrap().used()), (client, service));
    }
}

#[tokio::test]
async fn a_function_counts_refusals_for_the_ban() {
    let limit = client().quota("100/h").ban("3 in 1h for 1d").settle(|charge, response| match response.status() {
        StatusCode::UNAUTHORIZED => charge.penalise(),
        _ => charge.refund(),
    });
    let app = app(&layer(limit));
    let mut statuses = Vec::new();
    for path in ["/200", "/401", "/200", "/401", "/200", "/401", "/200"] {
        statuses.push(status(&app, path).await);
    }
    assert_eq!(statuses, [200, 401, 200, 401, 200, 401, 429]);
}

/// Hanging up, a panic and an error of the service are no way to avoid the charge.
#[tokio::test]
async fn without_a_response_the_charge_stays() {
    let layer = layer(client().quota("100/h").settle(|charge, _| charge.refund()));
    let ask = async |service: tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, &'static str>| {
        let answer = AssertUnwindSafe(layer.layer(service).oneshot(request("/"))).catch_unwind();
        let _ = tokio::time::timeout(Duration::from_millis(20), answer).await;
    };
    let boxed = tower::util::BoxCloneSyncService::new(service_fn(async |_| Ok(Response::new(Body::empty()))));
    ask(boxed).await;
    assert_eq!(used(&layer).await, 0, "with a response it is settled");
    ask(tower::util::BoxCloneSyncService::new(service_fn(async |_| std::future::pending().await))).await;
    assert_eq!(used(&layer).await, 1);
    ask(tower::util::BoxCloneSyncService::new(service_fn(async |_| panic!("in the handler")))).await;
    assert_eq!(used(&layer).await, 2);
    ask(tower::util::BoxCloneSyncService::new(service_fn(async |_| Err("failed")))).await;
    assert_eq!(used(&layer).await, 3);
}

/// Drops everything after the n-th poll, for every n: the charge is that of the request until there is a response, and
/// then what the function says about the frames that were taken.
#[tokio::test]
async fn a_request_that_is_dropped_after_any_poll_is_settled_once() {
    for with_trailers in [false, true] {
        let mut ends = Vec::new();
        for polls in 0..40 {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let sees = Arc::clone(&seen);
            let limit = client().quota("100000/h").cost(|_| 1_000).settle_at_end(move |charge, end: &BodyEnd<'_>| {
                sees.lock().unwrap().push((end.bytes(), end.is_complete(), end.grpc_status()));
                charge.set(end.bytes());
            });
            let layer = layer(limit);
            let service = service_fn(move |_: Request<Body>| async move {
                After(3).await;
                Ok::<_, Infallible>(Response::new(frames(5, &[7; 100], with_trailers)))
            });
            let mut left = polls;
            let mut cx = Context::from_waker(Waker::noop());
            let mut response = None;
            {
                let mut call = pin!(layer.layer(service).oneshot(request("/")));
                while left > 0 && response.is_none() {
                    left -= 1;
                    if let Poll::Ready(answer) = call.as_mut().poll(&mut cx) {
                        response = Some(answer.unwrap());
                    }
                }
            }
            let Some(response) = response else {
                // The first poll calls the service.
                let charged = if polls == 0 { 0 } else { 1_000 };
                assert_eq!((used(&layer).await, seen.lock().unwrap().len()), (charged, 0), "after {polls} polls");
                continue;
            };
            let (mut body, mut taken, mut is_complete) = (Box::pin(response.into_body()), 0, false);
            while left > 0 && !is_complete {
                left -= 1;
                match http_body::Body::poll_frame(body.as_mut(), &mut cx) {
                    Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
                        Ok(data) => taken += data.len() as u64,
                        Err(_) => is_complete = true,
                    },
                    Poll::Ready(None) => is_complete = true,
                    Poll::Pending => {}
                }
            }
            drop(body);
            let grpc_status = (with_trailers && is_complete).then_some(0);
            assert_eq!(*seen.lock().unwrap(), [(taken, is_complete, grpc_status)], "after {polls} polls");
            assert_eq!(used(&layer).await, taken, "after {polls} polls");
            ends.push((taken, is_complete));
        }
        assert!(ends.contains(&(0, false)) && ends.contains(&(300, false)) && ends.contains(&(500, true)), "{ends:?}");
    }
}

/// A reader that sees that nothing follows need not poll again.
#[tokio::test]
async fn a_body_that_is_known_to_end_is_complete() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let limit = client().quota("100/h").settle_at_end(move |_, end| {
        sees.lock().unwrap().push((end.status().as_u16(), end.bytes(), end.is_complete()));
    });
    let layer = layer(limit);
    for (body, bytes) in [(Body::empty(), 0), (Body::from("hello"), 5)] {
        let body = Arc::new(Mutex::new(Some(body)));
        let service = service_fn(move |_: Request<Body>| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let mut body = layer.layer(service).oneshot(request("/")).await.unwrap().into_body();
        while !http_body::Body::is_end_stream(&body) {
            assert!(body.frame().await.is_some());
        }
        drop(body);
        assert_eq!(seen.lock().unwrap().drain(..).collect::<Vec<_>>(), [(200, bytes, true)]);
    }
}

#[tokio::test]
async fn a_body_that_fails_is_not_complete() {
    let limit = client().quota("100000/h").settle_at_end(|charge, end| {
        assert!(!end.is_complete());
        charge.set(end.bytes());
    });
    let layer = layer(limit);
    let service = service_fn(async |_: Request<Body>| {
        let data = stream::iter([Ok(Frame::data(Bytes::from("half"))), Err("the disk is gone")]);
        Ok::<_, Infallible>(Response::new(StreamBody::new(data)))
    });
    let body = layer.layer(service).oneshot(request("/")).await.unwrap().into_body();
    assert!(body.collect().await.is_err());
    assert_eq!(used(&layer).await, 4);
}

/// The panic of a function that runs while a body is dropped ends neither the process nor the request.
#[tokio::test]
async fn a_panic_of_the_function_leaves_the_charge() {
    let layer = layer(client().quota("100/h").settle_at_end(|_, _| panic!("in the function")));
    let app = Router::new().fallback(any(async || "hello")).layer(layer.clone());
    drop(within(app.oneshot(request("/"))).await.unwrap());
    assert_eq!(used(&layer).await, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Conservation: what is in use in the end is what was settled, for requests that overlap in any order.
    #[test]
    fn the_units_in_use_are_those_that_were_settled(
        requests in prop::collection::vec((1_u64..20, 0_u64..40, 0_usize..6, proptest::bool::ANY), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limit = client().quota("300/h").cost(|req| req.uri().path()[1..].parse().unwrap());
            let layer = layer(limit.settle_at_end(|charge, end| charge.set(end.bytes())));
            // Each response stays open until its turn: the list has the units and the body.
            let (mut open, mut in_use) = (Vec::new(), 0_u64);
            for (cost, bytes, turn, is_read) in requests {
                let body = Bytes::from(vec![7; usize::try_from(bytes).unwrap()]);
                let service = service_fn(move |_: Request<Body>| {
                    let body = Body::new(StreamBody::new(stream::iter([Ok::<_, Infallible>(Frame::data(body.clone()))])));
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                let response = layer.layer(service).oneshot(request(&format!("/{cost}"))).await.unwrap();
                let is_admitted = in_use + cost <= 300;
                assert_eq!(response.status() == 200, is_admitted);
                if is_admitted {
                    in_use += cost;
                    open.push((cost, bytes, is_read, response.into_body()));
                }
                if turn < open.len() {
                    let (cost, bytes, is_read, mut body) = open.swap_remove(turn);
                    if is_read {
                        while body.frame().await.is_some() {}
                    }
                    drop(body);
                    let settled = if is_read { bytes } else { 0 };
                    in_use = match settled > cost && in_use - cost + settled > 300 {
                        true => in_use,
                        false => in_use - cost + settled,
                    };
                }
                assert_eq!(used(&layer).await, in_use);
            }
        });
    }
}

/// Waits until an observation is as expected.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

type Ends = Arc<Mutex<Vec<(u64, bool)>>>;

/// A server on a socket: `/short` answers at once, and any other path streams until the client is gone.
async fn serve() -> (SocketAddr, Ends, RateLimitLayer) {
    let ends = Ends::default();
    let sees = Arc::clone(&ends);
    let limit = Limit::per(Global).quota("1000000/h").name("all").cost(|_| 1_000).settle_at_end(move |charge, end| {
        sees.lock().unwrap().push((end.bytes(), end.is_complete()));
        charge.refund();
    });
    let layer = RateLimitLayer::builder().limit(limit).build().unwrap();
    let handler = async |request: Request<Body>| match request.uri().path() {
        "/short" => Body::from("hello"),
        _ => Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(&[7; 100])), ()))
        })),
    };
    let app = Router::new().fallback(any(handler)).layer(layer.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (addr, ends, layer)
}

/// Over HTTP/1.1 and HTTP/2: a normal end, and a client that hangs up in the middle of the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_end_and_hang_up() {
    for is_http2 in [false, true] {
        let (addr, ends, layer) = serve().await;
        let all = layer.control().limit("all").unwrap().global();
        let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http::<Full<Bytes>>();
        let get = async |path: &str| {
            let uri = format!("http://{addr}{path}");
            within(client.request(Request::get(uri).body(Full::default()).unwrap())).await.unwrap()
        };
        let short = within(get("/short").await.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(short, "hello");
        until("the end of a body settles", || *ends.lock().unwrap() == [(5, true)]).await;
        let mut endless = get("/endless").await.into_body();
        assert!(within(endless.frame()).await.unwrap().is_ok());
        assert_eq!(all.usage().await.unwrap().unwrap().used(), 1_000, "http2 {is_http2}");
        // HTTP/1.1 closes the connection, and HTTP/2 resets the stream.
        drop(endless);
        until("a hang-up settles", || ends.lock().unwrap().len() == 2).await;
        let (bytes, is_complete) = ends.lock().unwrap()[1];
        assert!(bytes >= 100 && !is_complete, "http2 {is_http2}: {bytes}");
        assert_eq!(all.usage().await.unwrap().unwrap().used(), 0, "http2 {is_http2}");
    }
}

/// The client's side of the connection is closed for writing. The response still ends normally.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_stream_is_settled_at_its_normal_end() {
    let (addr, ends, _layer) = serve().await;
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // Without a request body, HTTP/2 half-closes the stream with the headers.
    let request = Request::get(format!("http://{addr}/short")).body(Empty::<Bytes>::new()).unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    assert_eq!(within(response.into_body().collect()).await.unwrap().to_bytes(), "hello");
    until("the end of a body settles", || *ends.lock().unwrap() == [(5, true)]).await;
}

/// A gRPC status is in the trailers after a message, and in the headers without one. Only failures count.
#[cfg(feature = "tonic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_grpc_calls_that_fail_count() {
    use tonic::{Code, transport::Server, transport::server::TcpIncoming};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let statuses = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&statuses);
    let limit = Limit::per(Global).quota("2/h").settle_at_end(move |charge, end| {
        sees.lock().unwrap().push(end.grpc_status());
        if end.grpc_status() == Some(0) {
            charge.refund();
        }
    });
    let layer = RateLimitLayer::builder().limit(limit).build().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let mut codes = Vec::new();
    for service in ["", "", "", "unknown", "", "unknown", "", "unknown"] {
        let answer = within(client.check(HealthCheckRequest { service: service.to_owned() })).await;
        codes.push(answer.map_or_else(|status| status.code(), |_| Code::Ok));
        let count = codes.iter().filter(|code| **code != Code::ResourceExhausted).count();
        until("the end of a call settles", || statuses.lock().unwrap().len() == count).await;
    }
    let (ok, not_found, exhausted) = (Code::Ok, Code::NotFound, Code::ResourceExhausted);
    assert_eq!(codes, [ok, ok, ok, not_found, ok, not_found, exhausted, exhausted]);
    assert_eq!(*statuses.lock().unwrap(), [Some(0), Some(0), Some(0), Some(5), Some(0), Some(5)]);
}

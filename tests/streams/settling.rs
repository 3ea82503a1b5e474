//! How soon the units of a stream are free after its client is gone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt as _;
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::readers::HttpClient;
use crate::support::http::within;
use crate::{key, used};

/// The units that a request reserves.
const RESERVED: u64 = 1_000;

fn layer() -> RateLimitLayer {
    let limit = Limit::per(Global).quota("1000000/h").name("units").cost(|_| RESERVED).meter(|_| 1);
    RateLimitLayer::builder().limit(limit).build().unwrap()
}

/// An endless stream that sends a frame in each pause.
fn app(layer: &RateLimitLayer, pause: Duration) -> Router {
    let frames = move || async move {
        Body::from_stream(stream::unfold((), move |()| async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, Infallible>(Bytes::from_static(b"a frame")), ()))
        }))
    };
    Router::new().route("/", get(frames)).layer(layer.clone())
}

fn in_use(layer: &RateLimitLayer) -> u64 {
    used(layer).now_or_never().unwrap()
}

/// A body of which three frames are sent.
async fn half_read(app: &Router) -> Body {
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response: Response<Body> = app.clone().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        let frame = http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(Waker::noop()));
        assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
    }
    body
}

/// When the drop of the body returns, the units are free. No timer and no task is between.
#[tokio::test]
async fn the_drop_of_a_body_frees_its_units() {
    let layer = layer();
    let app = app(&layer, Duration::ZERO);
    let body = half_read(&app).await;
    assert_eq!(in_use(&layer), RESERVED);
    drop(body);
    assert_eq!(in_use(&layer), 3);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!("{what}: median {:.1?}, 99 of 100 {:.1?}, longest {:.1?}", at(500), at(990), at(1000));
}

/// The time from a client's hang-up until the units are free.
async fn hang_up(client: &HttpClient, addr: SocketAddr, layer: &RateLimitLayer) -> Duration {
    let request = Request::get(format!("http://{addr}/")).body(Empty::new()).unwrap();
    let mut body = within(client.request(request)).await.unwrap().into_body();
    assert!(within(body.frame()).await.unwrap().is_ok());
    let began = Instant::now();
    drop(body);
    while in_use(layer) >= RESERVED {
        tokio::task::yield_now().await;
    }
    let took = began.elapsed();
    key(layer).reset().await.unwrap();
    took
}

/// The latency of a settlement with a local store, in this process and over a socket.
///
/// ```text
/// cargo test --all-features --test streams -- --ignored --nocapture --exact settling::report
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures times"]
async fn report() {
    let layer = layer();
    let direct = app(&layer, Duration::ZERO);
    let mut times = Vec::new();
    for _ in 0..10_000 {
        let body = half_read(&direct).await;
        let began = Instant::now();
        drop(body);
        assert_eq!(in_use(&layer), 3);
        times.push(began.elapsed());
        key(&layer).reset().await.unwrap();
    }
    print("from the drop of a body to free units", times);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let served = app(&layer, Duration::from_millis(1));
    tokio::spawn(async move { axum::serve(listener, served).await.unwrap() });
    for is_http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http();
        let mut times = Vec::new();
        for _ in 0..500 {
            times.push(hang_up(&client, addr, &layer).await);
        }
        print(&format!("from the client's hang-up to free units, http2 {is_http2}"), times);
    }
}

//! Real connections: HTTP/1.1, HTTP/2, gRPC and WebSockets, that end, hang up and upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_tungstenite::tungstenite;
use tower_weir::layer::{KeyControl, RateLimitHandle};
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::support::http::within;

fn layer(most: u64) -> (RateLimitLayer, KeyControl) {
    let limit = Limit::per(Global).in_flight(most).name("all");
    let layer = RateLimitLayer::builder().limit(limit).handle(true).build().unwrap();
    let all = layer.control().limit("all").unwrap().global();
    (layer, all)
}

async fn used(all: &KeyControl) -> u64 {
    all.usage().await.unwrap().unwrap().used()
}

/// Waits until so many requests are in flight.
async fn until(all: &KeyControl, in_flight: u64, what: &str) {
    let began = Instant::now();
    while used(all).await != in_flight {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {} in flight", used(all).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn listen(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    addr
}

/// `/short` answers at once, `/never` does not answer, and any other path streams until the client is gone.
async fn serve(most: u64) -> (SocketAddr, KeyControl) {
    let (layer, all) = layer(most);
    let handler = async |request: Request<Body>| match request.uri().path() {
        "/short" => Body::from("hello"),
        "/never" => std::future::pending().await,
        _ => Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(&[7; 100])), ()))
        })),
    };
    (listen(Router::new().fallback(any(handler)).layer(layer)).await, all)
}

/// Normal ends, clients that hang up before the head and in the body, and reset streams, on both versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_end_and_hang_up() {
    for is_http2 in [false, true] {
        let (addr, all) = serve(2).await;
        let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http::<Full<Bytes>>();
        let ask = |path: &str| {
            let uri = format!("http://{addr}{path}");
            client.request(Request::get(uri).body(Full::default()).unwrap())
        };
        for _ in 0..4 {
            let body = within(within(ask("/short")).await.unwrap().into_body().collect()).await.unwrap();
            assert_eq!(body.to_bytes(), "hello");
            until(&all, 0, "a normal end").await;
        }
        let mut endless = within(ask("/endless")).await.unwrap().into_body();
        assert!(within(endless.frame()).await.unwrap().is_ok());
        assert_eq!(used(&all).await, 1, "http2 {is_http2}: the stream lives");
        let waiting = tokio::spawn(ask("/never"));
        until(&all, 2, "a request without an answer").await;
        assert_eq!(within(ask("/short")).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
        // HTTP/1.1 closes the connection, and HTTP/2 resets the stream.
        waiting.abort();
        until(&all, 1, "a hang-up before the head").await;
        drop(endless);
        until(&all, 0, "a hang-up in the body").await;
        assert_eq!(within(ask("/short")).await.unwrap().status(), StatusCode::OK);
    }
}

/// The client's side of a stream is closed for writing. The stream counts until its response ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_stream_counts_until_it_ends_or_is_reset() {
    let (addr, all) = serve(2).await;
    let socket = std::net::TcpStream::connect(addr).unwrap();
    socket.set_nonblocking(true).unwrap();
    let line = socket.try_clone().unwrap();
    let stream = tokio::net::TcpStream::from_std(socket).unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| {
        // Without a request body, HTTP/2 half-closes the stream with the headers.
        Request::get(format!("http://{addr}{path}")).body(Empty::<Bytes>::new()).unwrap()
    };
    let mut one = within(sender.send_request(request("/endless"))).await.unwrap().into_body();
    let mut two = within(sender.send_request(request("/endless"))).await.unwrap().into_body();
    assert!(within(one.frame()).await.unwrap().is_ok() && within(two.frame()).await.unwrap().is_ok());
    assert_eq!(used(&all).await, 2);
    drop(one);
    until(&all, 1, "one stream is reset, and the connection stays").await;
    line.shutdown(std::net::Shutdown::Both).unwrap();
    until(&all, 0, "the connection is gone").await;
}

/// The status of a gRPC stream is in its trailers. Until then, each watch counts.
#[cfg(feature = "tonic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_streams_count_until_their_status_or_their_end() {
    use tonic::{Code, transport::Server, transport::server::TcpIncoming};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let (layer, all) = layer(2);
    let (reporter, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    for _ in 0..4 {
        within(client.check(HealthCheckRequest::default())).await.unwrap();
        until(&all, 0, "a call with a status in its trailers").await;
    }
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(within(client.watch(HealthCheckRequest::default())).await.unwrap().into_inner());
    }
    for watch in &mut watches {
        within(watch.message()).await.unwrap().unwrap();
    }
    assert_eq!(used(&all).await, 2);
    let refused = within(client.watch(HealthCheckRequest::default())).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "too many requests in flight"));
    drop(watches.pop());
    until(&all, 1, "a watch is dropped").await;
    // Without its reporter, the service ends the other watch, with a status in the trailers.
    drop(reporter);
    let mut other = within(client.watch(HealthCheckRequest::default())).await.unwrap().into_inner();
    within(other.message()).await.unwrap().unwrap();
    assert_eq!(used(&all).await, 2);
    drop((other, watches));
    until(&all, 0, "all watches are gone").await;
}

/// An upgraded connection outlives its response. It counts for as long as its task holds the permits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_counts_until_it_closes() {
    let (layer, all) = layer(2);
    let serve = async |limits: RateLimitHandle, upgrade: WebSocketUpgrade| {
        let permits = limits.permits();
        upgrade.on_upgrade(async move |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if let Message::Text(text) = message {
                    socket.send(Message::Text(text)).await.unwrap();
                }
            }
            drop(permits);
        })
    };
    // What happens without the permits: the response ends, and the connection does not count.
    let forgetful = async |upgrade: WebSocketUpgrade| -> Response<Body> {
        upgrade.on_upgrade(async move |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    };
    let app = Router::new().route("/", get(serve)).route("/forgetful", get(forgetful)).layer(layer);
    let addr = listen(app).await;
    let open = async |path: &str| within(tokio_tungstenite::connect_async(format!("ws://{addr}{path}"))).await;
    let (mut one, _) = open("/").await.unwrap();
    let (mut two, _) = open("/").await.unwrap();
    for socket in [&mut one, &mut two] {
        within(socket.send(tungstenite::Message::text("hello"))).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap().to_text().unwrap(), "hello");
    }
    assert_eq!(used(&all).await, 2, "while both connections live");
    match open("/").await {
        Err(tungstenite::Error::Http(refused)) => assert_eq!(refused.status(), 429),
        other => panic!("{other:?}"),
    }
    within(one.close(None)).await.unwrap();
    until(&all, 1, "a connection is closed").await;
    drop(two);
    until(&all, 0, "a client is gone").await;
    let (forgotten, _) = open("/forgetful").await.unwrap();
    until(&all, 0, "a task without the permits").await;
    drop(forgotten);
}

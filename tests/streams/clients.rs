//! Metered streams over HTTP/1.1 and HTTP/2: however a stream ends, exactly what was sent stays charged.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::middleware::map_response;
use axum::routing::any;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_weir::layer::IntoStore;
use tower_weir::{Global, Limit, RateLimitLayer, RateLimiter};

use crate::support::http::within;
use crate::support::servers::{Flavor, Server};
use crate::{key, limiter, until, used};

/// The units in an hour. Each frame is one.
const LIMIT: u64 = 1_000;
/// The units that a request reserves.
const RESERVED: u64 = 5;

/// A server on a socket. `/{n}` streams n frames.
struct Service {
    addr: SocketAddr,
    layer: RateLimitLayer,
    /// The frames that left the layer.
    sent: Arc<AtomicU64>,
    /// The streams of the handler that are not dropped.
    open: Arc<AtomicU64>,
}

/// An open stream of the handler.
struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn frames(count: u64, open: &Arc<AtomicU64>) -> Body {
    open.fetch_add(1, Ordering::SeqCst);
    let open = Open(Arc::clone(open));
    Body::from_stream(stream::unfold((count, open), |(left, open)| async move {
        let left = left.checked_sub(1)?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"a frame\n")), (left, open)))
    }))
}

impl Service {
    async fn start(store: impl IntoStore) -> Self {
        let limit = Limit::per(Global).quota("1000/h").name("units").cost(|_| RESERVED).meter(|_| 1);
        let layer = RateLimitLayer::builder().limit(limit).limiter(store).build().unwrap();
        let (sent, open) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (counted, opened) = (Arc::clone(&sent), Arc::clone(&open));
        let handler = async move |Path(count): Path<u64>| frames(count, &opened);
        let count = map_response(move |response: Response<Body>| {
            let counted = Arc::clone(&counted);
            async move {
                response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        counted.fetch_add(u64::from(frame.is_data()), Ordering::SeqCst);
                        frame
                    }))
                })
            }
        });
        let app = Router::new().route("/{count}", any(handler)).layer(layer.clone()).layer(count);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, layer, sent, open }
    }

    /// Waits until all streams are over, and exactly their frames are charged.
    async fn is_settled(&self, before: u64, about: &str) -> u64 {
        until("the stream of the handler is dropped", async || self.open.load(Ordering::SeqCst) == 0).await;
        let sent = self.sent.swap(0, Ordering::SeqCst);
        until(about, async || used(&self.layer).await == before + sent).await;
        sent
    }

    /// Sets the units in use.
    async fn set(&self, units: u64) {
        key(&self.layer).set(units).await.unwrap();
    }
}

type RequestBody = BoxBody<Bytes, Infallible>;

fn client(is_http2: bool) -> impl AsyncFn(&Service, u64, RequestBody) -> Response<Incoming> {
    let client = Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http::<RequestBody>();
    async move |service, count, body| {
        let request = Request::post(format!("http://{}/{count}", service.addr));
        let response = within(client.request(request.body(body).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }
}

fn empty() -> RequestBody {
    Empty::new().boxed()
}

/// The frames until the end, and how the body ended.
async fn read(mut body: Incoming) -> (u64, Result<(), hyper::Error>) {
    let mut bytes = 0;
    while let Some(frame) = within(body.frame()).await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return (bytes as u64 / 8, Err(error)),
        }
    }
    (bytes as u64 / 8, Ok(()))
}

fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(Some(error), |&error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn check(service: &Service, is_http2: bool, store: &str) {
    let get = client(is_http2);
    let about = format!("{store}, http2 {is_http2}");

    for count in [0, 3, 40] {
        let (frames, end) = read(get(service, count, empty()).await.into_body()).await;
        assert!(frames == count && end.is_ok(), "{about}: {frames} of {count}, {end:?}");
        assert_eq!(service.is_settled(0, &about).await, count, "{about}");
        service.set(0).await;
    }

    // HTTP/1.1 closes the connection, and HTTP/2 resets the stream.
    let mut body = get(service, u64::MAX, empty()).await.into_body();
    for _ in 0..3 {
        assert!(within(body.frame()).await.unwrap().is_ok());
    }
    drop(body);
    assert!(service.is_settled(0, &about).await >= 3, "{about}");

    // The limit ends the stream. The client does not take it for complete.
    service.set(LIMIT - 12).await;
    let (frames, end) = read(get(service, u64::MAX, empty()).await.into_body()).await;
    let error = end.unwrap_err();
    assert_eq!(frames, 12, "{about}");
    // HTTP/1.1 closes the connection before the last chunk, and HTTP/2 resets the stream.
    let sign = if is_http2 { "stream error received" } else { "unexpected EOF" };
    assert!(with_sources(&error).contains(sign), "{about}: {}", with_sources(&error));
    assert_eq!(service.is_settled(LIMIT - 12, &about).await, 12, "{about}");
    service.set(0).await;

    // The request has not ended when its response does.
    let (sender, receiver) = tokio::sync::mpsc::channel::<()>(1);
    let endless = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|()| (Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"more"))), receiver))
    });
    let body = StreamBody::new(sync(endless)).boxed();
    let (frames, end) = read(get(service, 20, body).await.into_body()).await;
    assert!(frames == 20 && end.is_ok(), "{about}: {frames}, {end:?}");
    assert_eq!(service.is_settled(0, &about).await, 20, "{about}");
    drop(sender);
    service.set(0).await;
}

/// A stream that only one thread polls at a time.
fn sync<S: futures_util::Stream<Item = T> + Send + 'static, T: 'static>(
    stream: S,
) -> impl futures_util::Stream<Item = T> + Send + Sync {
    let mut stream = std::sync::Mutex::new(Box::pin(stream));
    stream::poll_fn(move |cx| stream.get_mut().unwrap().as_mut().poll_next(cx))
}

/// The client closes its side of the connection after its request. A server of HTTP/1.1 may take it for a hang-up.
async fn check_half_closed(service: &Service, store: &str) {
    let mut socket = tokio::net::TcpStream::connect(service.addr).await.unwrap();
    socket.write_all(b"GET /50 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    within(socket.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = within(socket.read_to_end(&mut rest)).await;
    let received = rest.windows(8).filter(|bytes| bytes == b"a frame\n").count() as u64;
    let sent = service.is_settled(0, store).await;
    assert!(received <= sent && sent <= 50, "{store}: {received} of {sent}");
    service.set(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_what_was_sent_stays_charged() {
    let rl = RateLimiter::builder().build().unwrap();
    let service = Service::start(rl.local()).await;
    for is_http2 in [false, true] {
        check(&service, is_http2, "local").await;
    }
    check_half_closed(&service, "local").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_what_was_sent_stays_charged_in_redis() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server.url(), 1);
    for (store, service) in [("redis", Service::start(rl.redis()).await), ("hybrid", Service::start(rl.hybrid()).await)]
    {
        service.set(0).await;
        for is_http2 in [false, true] {
            check(&service, is_http2, store).await;
        }
        check_half_closed(&service, store).await;
    }
}

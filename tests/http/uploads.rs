//! A refused upload over HTTP/1 gets its answer: the layer reads what the client still sends, within bounds.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::ready;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::{MissingKey, RequestView};
use tower_weir::{Global, Quota, RateLimitLayer, RateLimitLayerBuilder};

use crate::support::http::{retry_after, within};

const MEGABYTE: usize = 1 << 20;

/// A body without an end: a frame of a megabyte for each poll, up to a number of them, then silence.
struct Endless {
    polls: Arc<AtomicUsize>,
    frames: usize,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        if self.frames == 0 {
            return Poll::Pending;
        }
        self.frames -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; MEGABYTE])))))
    }
}

/// Refuses a request with an endless body; its response, and how often the body was polled.
async fn refuse(
    limit: RateLimitLayerBuilder,
    frames: usize,
    change: impl FnOnce(&mut Request<Endless>),
) -> (Response<()>, usize) {
    let limit = limit.quota(Quota::reject_all()).key(Global).build().unwrap();
    let service =
        limit.layer(service_fn(|_: Request<Endless>| ready(Ok::<_, Infallible>(Response::new(String::new())))));
    let polls = Arc::new(AtomicUsize::new(0));
    let mut request = Request::post("/").body(Endless { polls: Arc::clone(&polls), frames }).unwrap();
    change(&mut request);
    let response = within(service.oneshot(request)).await.unwrap();
    assert_eq!(response.status(), 429);
    (response.map(drop), polls.load(Ordering::SeqCst))
}

fn drains() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().drain_body::<Endless>()
}

fn closes(response: &Response<()>) -> bool {
    response.headers().get("connection").is_some_and(|value| value == "close")
}

#[tokio::test]
async fn a_body_longer_than_the_bound_is_read_to_the_bound() {
    let (response, polls) = refuse(drains().drain_bytes(8 << 20), usize::MAX, |_| {}).await;
    assert_eq!(polls, 9, "the frame that exceeds 8 MiB is the last one read");
    assert!(closes(&response), "the client must know that the connection ends");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up_after_the_timeout() {
    let (response, polls) = refuse(drains().drain_timeout(Duration::from_millis(20)), 2, |_| {}).await;
    assert!(polls >= 3, "both frames are read before the wait");
    assert!(closes(&response));
}

#[tokio::test]
async fn a_body_that_keeps_coming_is_given_up_after_the_timeout() {
    // No bound in bytes can end it, and the body is never pending.
    let limit = drains().drain_bytes(u64::MAX).drain_timeout(Duration::from_millis(20));
    let (response, _) = refuse(limit, usize::MAX, |_| {}).await;
    assert!(closes(&response));
}

#[tokio::test]
async fn nothing_is_read_where_reading_is_wrong() {
    let unread = |change: fn(&mut Request<Endless>)| async move { refuse(drains(), usize::MAX, change).await };

    for version in [Version::HTTP_2, Version::HTTP_3] {
        let (response, polls) = refuse(drains(), usize::MAX, |request| *request.version_mut() = version).await;
        assert_eq!((polls, closes(&response)), (0, false), "{version:?} has no connection to save or to close");
    }
    // Reading would make the server ask for the body.
    let (response, polls) = unread(|request| {
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
    })
    .await;
    assert_eq!((polls, closes(&response)), (0, true));
    let (response, polls) = unread(|request| {
        request.headers_mut().insert("content-length", "33554433".parse().unwrap());
    })
    .await;
    assert_eq!((polls, closes(&response)), (0, true), "a body that exceeds the bound is not begun");
    let (response, polls) = refuse(drains().drain_bytes(0), usize::MAX, |_| {}).await;
    assert_eq!((polls, closes(&response)), (0, true), "0 turns reading off");
    let (response, polls) = refuse(RateLimitLayer::builder(), usize::MAX, |_| {}).await;
    assert_eq!((polls, closes(&response)), (0, false), "a type of body that nobody named is left alone");
}

/// The refusal comes from the response's future here, and in the tests above from the call.
#[tokio::test]
async fn a_refusal_after_a_wait_reads_the_body_too() {
    let waits = |_: &RequestView<'_>| async { Ok::<u64, MissingKey>(7) };
    let (response, polls) = refuse(drains().drain_bytes(8 << 20).key_lookup(waits), usize::MAX, |_| {}).await;
    assert_eq!((polls, closes(&response)), (9, true));
}

#[tokio::test]
async fn a_request_that_is_admitted_keeps_its_body() {
    let limit = drains().quota("1/h".parse().unwrap()).key(Global).build().unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let request = Request::post("/").body(Endless { polls: Arc::clone(&polls), frames: 3 }).unwrap();
    let frames = service_fn(|request: Request<Endless>| {
        ready(Ok::<_, Infallible>(Response::new(request.into_body().frames.to_string())))
    });
    let response = within(limit.layer(frames).oneshot(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), polls.load(Ordering::SeqCst)), (200, 0));
}

/// A server that admits one upload.
async fn serve(limit: RateLimitLayerBuilder) -> SocketAddr {
    let limit = limit.quota("1/h".parse().unwrap()).key(Global).build().unwrap();
    let upload = post(async |body: Bytes| body.len().to_string());
    let app = Router::new().route("/", upload).layer(limit).layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

fn head(framing: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n")
}

/// Sends all of a request before it reads, over a connection that is kept; the head of the answer.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<String> {
    stream.write_all(request)?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let length = answer.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()])?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_everything_first_reads_429_and_keeps_its_connection() {
    let address = serve(RateLimitLayer::builder()).await;
    let send = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        for size in [3, 1_000, 500_000, 8_000_000, 20_000_000] {
            let request = [head(&format!("content-length: {size}")).as_bytes(), &vec![b'x'; size]].concat();
            let answer = exchange(&mut stream, &request).unwrap_or_else(|error| panic!("{size} bytes: {error}"));
            let expected = if size == 3 { "http/1.1 200" } else { "http/1.1 429" };
            assert!(answer.starts_with(expected), "{size} bytes: {answer}");
            assert_eq!(answer.contains("retry-after: "), size != 3);
        }
        // Chunked, whose length is known only at its end.
        let mut request = head("transfer-encoding: chunked").into_bytes();
        for _ in 0..32 {
            write!(request, "{:x}\r\n", MEGABYTE / 4).unwrap();
            request.extend(vec![b'x'; MEGABYTE / 4]);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        let answer = exchange(&mut stream, &request).unwrap();
        assert!(answer.starts_with("http/1.1 429"), "{answer}");
    };
    within(tokio::task::spawn_blocking(send)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_100_continue_is_answered_at_once() {
    let address = serve(RateLimitLayer::builder()).await;
    let send = move || {
        let request = |size: usize| [head(&format!("content-length: {size}")).as_bytes(), &vec![b'x'; size]].concat();
        exchange(&mut TcpStream::connect(address).unwrap(), &request(1)).unwrap();
        let request = head("content-length: 9000000\r\nexpect: 100-continue");
        let answer = exchange(&mut TcpStream::connect(address).unwrap(), request.as_bytes()).unwrap();
        assert!(answer.starts_with("http/1.1 429"), "the server asked for the body of a refused request: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    };
    within(tokio::task::spawn_blocking(send)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hyper_reads_429_after_an_upload() {
    let address = serve(RateLimitLayer::builder()).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    for size in [1, 500_000, 8_000_000, 8_000_000, 8_000_000] {
        let body = Full::new(Bytes::from(vec![b'x'; size]));
        let request = Request::post(format!("http://{address}/")).body(body).unwrap();
        let response = within(client.request(request)).await.unwrap_or_else(|error| panic!("{size} bytes: {error}"));
        assert_eq!(response.status(), if size == 1 { 200 } else { 429 });
        assert_eq!(retry_after(&response).is_some(), size != 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_not_read_loses_its_answer() {
    // Shows that the tests above can fail.
    let address = serve(RateLimitLayer::builder().drain_bytes(0)).await;
    let send = move || {
        let request = [head("content-length: 8000000").as_bytes(), &[b'x'; 8_000_000]].concat();
        let connect = || exchange(&mut TcpStream::connect(address).unwrap(), &request);
        (0..64).any(|_| connect().is_err())
    };
    assert!(within(tokio::task::spawn_blocking(send)).await.unwrap());
}

/// Has a program upload 8 MB ten times; it prints a status for each, and gets the port as its last argument.
async fn program_reads_429(program: &str, arguments: &[&str]) {
    let address = serve(RateLimitLayer::builder()).await;
    let port = address.port().to_string();
    let mut command = Command::new(program);
    command.args(arguments).arg(&port);
    let output = within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let statuses: Vec<&str> = printed.split_whitespace().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(statuses, ["200", "429", "429", "429", "429", "429", "429", "429", "429", "429"], "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl; tests/run.sh runs it"]
async fn curl_reads_429_after_an_upload() {
    let script = "for i in 0 1 2 3 4 5 6 7 8 9; do head -c 8000000 /dev/zero | \
        curl -s --noproxy '*' -o /dev/null -w '%{http_code} ' -H 'Expect:' --data-binary @- http://127.0.0.1:$0/; done";
    program_reads_429("sh", &["-c", script]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs node; tests/run.sh runs it"]
async fn node_reads_429_after_an_upload() {
    let script = "const http = require('http'), body = Buffer.alloc(8e6), port = process.argv.at(-1);
        const classic = () => new Promise((done, fail) => {
            const request = http.request({ port, method: 'POST', headers: { 'content-length': body.length } }, answer => {
                answer.resume().on('end', () => done(answer.statusCode));
            });
            request.on('error', fail).end(body);
        });
        const fetched = async () => {
            const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body });
            await answer.arrayBuffer();
            return answer.status;
        };
        (async () => {
            for (let i = 0; i < 10; i++) console.log(await (i % 2 ? classic() : fetched()));
        })();";
    program_reads_429("node", &["-e", script]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs python3; tests/run.sh runs it"]
async fn python_reads_429_after_an_upload() {
    let script = "import http.client, sys
for _ in range(10):
    connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[-1]))
    connection.request('POST', '/', bytes(8000000))
    print(connection.getresponse().status)";
    program_reads_429("python3", &["-c", script]).await;
}

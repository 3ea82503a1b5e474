//! Uploads over the limit, through a proxy that takes a lost answer for a failure of the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use bytes::Bytes;
use tower_weir::{Global, Quota, RateLimitLayer, RateLimitLayerBuilder};

use super::{Proxy, pass_to, serve};

const SIZES: [usize; 2] = [500_000, 8_000_000];

/// A server that refuses every upload and answers `GET /health`.
async fn refusing(limit: RateLimitLayerBuilder) -> SocketAddr {
    let limit = limit.quota(Quota::reject_all()).key(Global).build().unwrap();
    let upload = post(async |body: Bytes| body.len().to_string());
    let app = Router::new().route("/", upload).layer(limit).layer(DefaultBodyLimit::disable());
    serve(app.route("/health", get(async || "well"))).await
}

/// Sends the whole request, then reads: as clients do that do not look for an early answer.
fn status(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.get(9..12).unwrap_or("no answer").to_owned())
}

fn upload(size: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    [head.as_bytes(), &vec![b'x'; size]].concat()
}

async fn statuses(address: SocketAddr, size: usize, count: usize) -> Vec<String> {
    let send =
        move || (0..count).map(|_| status(address, &upload(size)).unwrap_or_else(|e| e.kind().to_string())).collect();
    tokio::task::spawn_blocking(send).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; tests/run.sh runs it"]
async fn nginx_passes_on_the_refusal_of_an_upload() {
    let server = refusing(RateLimitLayer::builder()).await;
    let nginx = Proxy::nginx(|port, _| pass_to(port, &[server]));
    for size in SIZES {
        let seen = statuses(nginx.address(), size, 8).await;
        assert!(seen.iter().all(|status| status == "429"), "{size} bytes: {seen:?}");
    }
    assert_eq!(nginx.logged("error.log", "upstream"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; tests/run.sh runs it"]
async fn nginx_keeps_both_servers_of_an_upstream_in_use_while_uploads_are_refused() {
    let servers = [refusing(RateLimitLayer::builder()).await, refusing(RateLimitLayer::builder()).await];
    let nginx = Proxy::nginx(|port, _| pass_to(port, &servers));
    for size in SIZES {
        let seen = statuses(nginx.address(), size, 8).await;
        assert!(seen.iter().all(|status| status == "429"), "{size} bytes: {seen:?}");
        let address = nginx.address();
        let health = b"GET /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let seen = tokio::task::spawn_blocking(move || status(address, health).unwrap()).await.unwrap();
        assert_eq!(seen, "200");
    }
    let complaints = nginx.logged("error.log", "upstream");
    assert_eq!(complaints, Vec::<String>::new(), "nginx counts failures of a server that is well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; tests/run.sh runs it"]
async fn nginx_answers_502_when_the_upload_is_not_read() {
    // Shows that the two tests above can fail.
    let server = refusing(RateLimitLayer::builder().drain_bytes(0)).await;
    let nginx = Proxy::nginx(|port, _| pass_to(port, &[server]));
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.extend(statuses(nginx.address(), 8_000_000, 8).await);
        if seen.iter().any(|status| status != "429") {
            return;
        }
    }
    panic!("nginx passed on all of {} answers to uploads that nobody read", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy; tests/run.sh runs it"]
async fn haproxy_passes_on_the_refusal_of_an_upload() {
    let server = refusing(RateLimitLayer::builder()).await;
    let haproxy = Proxy::haproxy(|port| {
        format!("frontend in\n  bind 127.0.0.1:{port}\n  default_backend out\nbackend out\n  server a {server}")
    });
    for size in SIZES {
        let seen = statuses(haproxy.address(), size, 8).await;
        assert!(seen.iter().all(|status| status == "429"), "{size} bytes: {seen:?}");
    }
}

//! Whose address the key is, behind proxies as they are usually configured.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use tower_weir::{ClientIp, RateLimitLayer};

use super::{Proxy, serve};

fn app(key: ClientIp, quota: &str) -> Router {
    let limit = RateLimitLayer::builder().quota(quota.parse().unwrap()).key(key).build().unwrap();
    Router::new().route("/", get(async || "hello")).layer(limit)
}

/// The status of one request with these header lines.
async fn status(address: SocketAddr, lines: &'static str) -> String {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: a:80\r\nconnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

/// HAProxy checks from its own address and sends no forwarding header. If it gets 500, all clients get 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy; tests/run.sh runs it"]
async fn haproxy_checks_the_health_of_a_service_that_trusts_it() {
    let (well, ill) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counts = (Arc::clone(&well), Arc::clone(&ill));
    let count = move |request: Request, next: Next| {
        let (well, ill) = counts.clone();
        async move {
            let is_probe = !request.headers().contains_key("x-forwarded-for");
            let response = next.run(request).await;
            let counter = if response.status().is_success() { well } else { ill };
            counter.fetch_add(u32::from(is_probe), Ordering::Relaxed);
            response
        }
    };
    let key = ClientIp::behind(["127.0.0.0/8"]).unwrap();
    let server = serve(app(key, "100000/h").layer(from_fn(count))).await;
    let haproxy = Proxy::haproxy(|port| {
        format!(
            "frontend in\n  bind 127.0.0.1:{port}\n  option forwardfor\n  default_backend out\n\
             backend out\n  option httpchk GET /\n  server a {server} check inter 20ms rise 1 fall 1"
        )
    });
    let probed = async {
        while well.load(Ordering::Relaxed) < 5 && ill.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), probed).await.unwrap();
    assert_eq!(ill.load(Ordering::Relaxed), 0, "a health check was refused");
    assert_eq!(status(haproxy.address(), "x-forwarded-for: 203.0.113.9\r\n").await, "200");
}

/// The inner nginx writes its own peer, the outer one, as `unix:`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; tests/run.sh runs it"]
async fn a_client_is_found_behind_two_nginx_and_a_unix_socket() {
    let behind = |proxies: &[&str]| app(ClientIp::behind(proxies).unwrap(), "1/h");
    let trusting = serve(behind(&["127.0.0.0/8", "unix:"])).await;
    let strict = serve(behind(&["127.0.0.0/8"])).await;
    let chain_to = |server: SocketAddr| {
        Proxy::nginx(move |port, folder| {
            let socket = format!("unix:{}/inner.sock", folder.display());
            let append = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
            format!(
                "server {{ listen 127.0.0.1:{port}; location / {{ {append} proxy_pass http://{socket}:/; }} }}\n\
                 server {{ listen {socket}; location / {{ {append} proxy_pass http://{server}; }} }}"
            )
        })
    };
    let nginx = chain_to(trusting);
    assert_eq!(status(nginx.address(), "x-forwarded-for: 203.0.113.9\r\n").await, "200");
    assert_eq!(status(nginx.address(), "x-forwarded-for: 203.0.113.9\r\n").await, "429");
    assert_eq!(status(nginx.address(), "x-forwarded-for: 203.0.113.10\r\n").await, "200");
    let nginx = chain_to(strict);
    assert_eq!(status(nginx.address(), "x-forwarded-for: 203.0.113.9\r\n").await, "500");
}

/// A common recipe copies the address without brackets or quotes, and the host with its port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; tests/run.sh runs it"]
async fn an_ipv6_client_is_found_behind_nginx_with_the_usual_recipe_for_forwarded() {
    let server = serve(app(ClientIp::behind(["127.0.0.0/8"]).unwrap().forwarded(), "1/h")).await;
    let nginx = Proxy::nginx(|port, _| {
        let forwarded = "proxy_set_header Forwarded \"for=$remote_addr;proto=$scheme;host=$http_host\";";
        format!(
            "server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; \
             location / {{ {forwarded} proxy_pass http://{server}; }} }}"
        )
    });
    let over_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, nginx.address().port()));
    assert_eq!(status(over_ipv6, "").await, "200");
    assert_eq!(status(over_ipv6, "forwarded: for=6.6.6.6\r\n").await, "429");
    assert_eq!(status(nginx.address(), "").await, "200", "another client");
}

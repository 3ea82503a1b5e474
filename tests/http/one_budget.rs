//! One budget for HTTP and gRPC: the same limiter, name and key behind an axum router and a tonic server.
#![cfg(all(feature = "axum", feature = "tonic"))]
#![allow(clippy::unwrap_used)]

/// HTTP and gRPC on one port.
#[allow(dead_code)]
#[path = "../../examples/one_port.rs"]
mod one_port;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use tower_weir::{ManualClock, RateLimitLayer, RateLimiter};

use crate::support::http::{retry_after, within};

/// A client of two servers, which may be one.
struct Clients {
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Clients {
    async fn fetch(&self) -> Response<Bytes> {
        let request = Request::get(format!("http://{}/", self.http)).body(Empty::<Bytes>::new()).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (parts, body) = within(client.request(request)).await.unwrap().into_parts();
        Response::from_parts(parts, within(body.collect()).await.unwrap().to_bytes())
    }

    async fn check(&self) -> Result<(), Status> {
        let channel = within(Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect()).await.unwrap();
        within(HealthClient::new(channel).check(HealthCheckRequest::default())).await.map(drop)
    }

    /// Which of these are admitted, 'h' by HTTP and 'g' by gRPC, one after another.
    async fn admitted(&self, calls: &str) -> Vec<bool> {
        let mut admitted = Vec::new();
        for call in calls.chars() {
            admitted.push(match call {
                'h' => self.fetch().await.status() == 200,
                _ => self.check().await.is_ok(),
            });
        }
        admitted
    }

    /// Both are refused, each in its own protocol, and told the same wait.
    async fn read_refusals(&self) -> Duration {
        let status = self.check().await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(status.get_details_quota_failure().unwrap().violations.len(), 1);

        let refused = self.fetch().await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(refused.body()).unwrap();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(retry_after(&refused), Some(wait.as_millis().div_ceil(1_000).try_into().unwrap()));
        wait
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn serve(app: Router) -> SocketAddr {
    let (listener, addr) = listen().await;
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    addr
}

/// An axum server and a tonic server, each on a port of its own.
async fn serve_both(http: RateLimitLayer, grpc: RateLimitLayer) -> Clients {
    let (listener, addr) = listen().await;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(grpc).add_service(health);
    tokio::spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    Clients { http: serve(Router::new().route("/", get(async || "hello")).layer(http)).await, grpc: addr }
}

fn limiter() -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    (RateLimiter::builder().clock(clock.clone()).build().unwrap(), clock)
}

fn layer(rl: &RateLimiter, name: &str, quota: &str) -> RateLimitLayer {
    RateLimitLayer::builder().name(name).quota(quota.parse().unwrap()).limiter(rl.local()).build().unwrap()
}

/// Five of both kinds together, and after the wait that both are told five again, in another order.
async fn assert_is_one_budget(clients: &Clients, clock: &ManualClock) {
    assert_eq!(clients.admitted("hghgh").await, [true; 5]);
    let wait = clients.read_refusals().await;
    clock.advance(wait - Duration::from_millis(1));
    assert_eq!(clients.admitted("hg").await, [false; 2]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(clients.admitted("ggggg").await, [true; 5]);
    clients.read_refusals().await;
}

#[tokio::test]
async fn http_and_grpc_on_one_port_share_a_budget() {
    let (rl, clock) = limiter();
    let addr = serve(one_port::app(layer(&rl, "api", "5/min"))).await;
    let clients = Clients { http: addr, grpc: addr };
    assert_is_one_budget(&clients, &clock).await;
}

#[tokio::test]
async fn an_unknown_path_on_one_port_is_answered_in_http() {
    let (rl, _clock) = limiter();
    let addr = serve(one_port::app(layer(&rl, "api", "5/min"))).await;
    let request = Request::get(format!("http://{addr}/nothing")).body(Empty::<Bytes>::new()).unwrap();
    let answer = within(Client::builder(TokioExecutor::new()).build_http().request(request)).await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn an_axum_server_and_a_tonic_server_share_a_budget() {
    let (rl, clock) = limiter();
    let shared = layer(&rl, "api", "5/min");
    assert_is_one_budget(&serve_both(shared.clone(), shared).await, &clock).await;

    let (rl, clock) = limiter();
    let [one, other] = [layer(&rl, "api", "5/min"), layer(&rl, "api", "5/min")];
    assert_is_one_budget(&serve_both(one, other).await, &clock).await;
}

#[tokio::test]
async fn servers_share_no_budget_under_different_names() {
    let (rl, _clock) = limiter();
    let clients = serve_both(layer(&rl, "http", "1/min"), layer(&rl, "grpc", "1/min")).await;
    assert_eq!(clients.admitted("hghg").await, [true, true, false, false]);
}

#[tokio::test]
async fn each_server_can_have_a_quota_of_its_own_on_the_shared_history() {
    let (rl, _clock) = limiter();
    let clients = serve_both(layer(&rl, "api", "2/min"), layer(&rl, "api", "4/min")).await;
    assert_eq!(clients.admitted("gghgg").await, [true, true, false, true, true]);
    assert_eq!(clients.admitted("hg").await, [false, false]);
}

//! Metered streams of gRPC, read by a client of tonic.

use std::net::SocketAddr;

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::HealthReporter;
use tower_weir::layer::IntoStore;
use tower_weir::{Global, Limit, RateLimitLayer, RateLimiter};

use crate::support::http::within;
use crate::support::servers::{Flavor, Server as Redis};
use crate::{key, limiter, until, used};

/// A health service whose streams are metered: each message is a unit.
struct Health {
    addr: SocketAddr,
    layer: RateLimitLayer,
    reporter: HealthReporter,
    is_serving: bool,
}

impl Health {
    async fn start(store: impl IntoStore, quota: &str, reserved: u64) -> Self {
        let limit = Limit::per(Global).quota(quota).name("units").cost(move |_| reserved).meter(|_| 1);
        let layer = RateLimitLayer::builder().limit(limit).limiter(store).build().unwrap();
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::builder().layer(layer.clone()).add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { addr, layer, reporter, is_serving: true }
    }

    async fn watch(&self) -> Result<Streaming<HealthCheckResponse>, Status> {
        let channel = Endpoint::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap();
        let request = HealthCheckRequest { service: String::new() };
        within(HealthClient::new(channel).watch(request)).await.map(tonic::Response::into_inner)
    }

    /// Makes each open stream send a message.
    async fn change(&mut self) {
        self.is_serving = !self.is_serving;
        let status = if self.is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status("", status).await;
    }
}

async fn check(store: &(impl IntoStore + Clone), about: &str) {
    let mut health = Health::start(store.clone(), "3/h", 1).await;
    let mut stream = health.watch().await.unwrap();
    for message in 0..3 {
        assert!(within(stream.message()).await.unwrap().is_some(), "{about}: message {message}");
        health.change().await;
    }
    let status = within(stream.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "rate limit exceeded"), "{about}");
    until(about, async || used(&health.layer).await == 3).await;
    assert_eq!(health.watch().await.unwrap_err().code(), Code::ResourceExhausted, "{about}");
    key(&health.layer).reset().await.unwrap();

    // A client that hangs up pays the messages that it got.
    let mut health = Health::start(store.clone(), "1000/h", 10).await;
    let mut stream = health.watch().await.unwrap();
    for _ in 0..2 {
        assert!(within(stream.message()).await.unwrap().is_some(), "{about}");
        assert_eq!(used(&health.layer).await, 10, "{about}");
        health.change().await;
    }
    assert!(within(stream.message()).await.unwrap().is_some(), "{about}");
    drop(stream);
    until(about, async || used(&health.layer).await == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_grpc_ends_with_a_status_and_pays_what_was_sent() {
    check(RateLimiter::builder().build().unwrap().local(), "local").await;
    let server = Redis::start(Flavor::Debian);
    check(limiter(&server.url(), 1).redis(), "redis").await;
    server.cli(&["FLUSHALL"]);
    check(limiter(&server.url(), 1).hybrid(), "hybrid").await;
}

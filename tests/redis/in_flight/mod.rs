//! Caps on requests in flight in Redis: one count for all instances, whatever becomes of an instance.
#![cfg(all(target_os = "linux", feature = "middleware", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod counts;
mod lives;
mod outages;
mod processes;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::RateLimitBody;
use tower_weir::{Limit, OnStoreError, RateLimitLayer, RateLimitLayerBuilder, RateLimiter, RedisOptions};

use crate::support::servers::Server;

/// The response to a request in flight.
type Held = Response<RateLimitBody<Full<Bytes>>>;

/// The time to live of the permits. A stall of 300 ms must not end one.
const TTL: Duration = Duration::from_secs(2);

/// Settings under which a slow machine is not taken for an outage.
fn redis(server: &Server) -> RedisOptions {
    RedisOptions::url(server.url()).deadline(Duration::from_secs(1)).instances(2)
}

/// An instance, with a Redis store or a hybrid one.
fn instance(server: &Server, is_hybrid: bool, limits: impl IntoIterator<Item = Limit>) -> RateLimitLayer {
    let rl = RateLimiter::builder().redis(redis(server)).build().unwrap();
    let builder = RateLimitLayer::builder().on_store_error(OnStoreError::Reject);
    let builder = if is_hybrid { builder.limiter(rl.hybrid()) } else { builder.limiter(rl.redis()) };
    limits.into_iter().fold(builder, RateLimitLayerBuilder::limit).build().unwrap()
}

fn cap(most: u64) -> Limit {
    Limit::per(Header::new("x-client")).in_flight(most).permit_ttl(TTL).name("cap")
}

async fn send(layer: &RateLimitLayer, client: &str) -> Held {
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::from("hello"))));
    let request = Request::get("/").header("x-client", client).body(()).unwrap();
    layer.layer(hello).oneshot(request).await.unwrap()
}

/// Sends so many requests, all of which are admitted.
async fn hold(layer: &RateLimitLayer, client: &str, requests: u64) -> Vec<Held> {
    let mut held = Vec::new();
    for number in 0..requests {
        held.push(send(layer, client).await);
        assert_eq!(held.last().unwrap().status(), 200, "request {number} of {requests}");
    }
    held
}

/// The requests of a client that are in flight, or `None` while Redis does not answer.
async fn try_used(layer: &RateLimitLayer, client: &str) -> Option<u64> {
    let key = layer.control().limit("cap").unwrap().key(client);
    key.usage().await.ok().flatten().map(|decision| decision.used())
}

async fn used(layer: &RateLimitLayer, client: &str) -> u64 {
    try_used(layer, client).await.expect("Redis answers")
}

/// Waits until so many requests of a client are in flight. A return is sent in the background.
async fn until(layer: &RateLimitLayer, client: &str, in_flight: u64) {
    let began = Instant::now();
    loop {
        let used = try_used(layer, client).await;
        if used == Some(in_flight) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{used:?} in flight instead of {in_flight}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

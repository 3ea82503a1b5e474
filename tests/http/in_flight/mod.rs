//! Caps on the requests of a key that are in flight: what counts, until when, and what a refused client sees.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

mod answers;
mod config;
mod ends;
mod model;
mod sockets;

use axum::body::Body;
use http::Request;
use tower_weir::key::Header;
use tower_weir::{Limit, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

/// A cap for each client.
fn cap(most: u64) -> Limit {
    Limit::per(Header::new("x-client")).in_flight(most).name("cap")
}

fn layer(limits: impl IntoIterator<Item = Limit>) -> RateLimitLayer {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let builder = RateLimitLayer::builder().handle(true).limiter(rl.local());
    limits.into_iter().fold(builder, RateLimitLayerBuilder::limit).build().unwrap()
}

/// The requests of a client that are in flight.
async fn in_flight(layer: &RateLimitLayer, client: &str) -> u64 {
    layer.control().limit("cap").unwrap().key(client).usage().await.unwrap().unwrap().used()
}

fn request(client: &str) -> Request<Body> {
    Request::get("/").header("x-client", client).body(Body::empty()).unwrap()
}

//! Metered responses as real clients see them: streams over sockets, on each store, from one process and from several.
//!
//! [`proof::report`] measures a thousand streams on four processes.
#![cfg(all(target_os = "linux", feature = "axum", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod clients;
mod fleet;
#[cfg(feature = "tonic")]
mod grpc;
mod leases;
mod proof;
mod readers;
mod settling;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use tower_weir::layer::KeyControl;
use tower_weir::{OnStoreError, RateLimitLayer, RateLimiter, RedisOptions};

/// A limiter that never decides alone: it fails a call that Redis does not answer within a second.
fn limiter(url: &str, instances: u64) -> RateLimiter {
    let redis = RedisOptions::url(url).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject);
    RateLimiter::builder().redis(redis.instances(instances)).build().unwrap()
}

/// The only key of the limit `units`.
fn key(layer: &RateLimitLayer) -> KeyControl {
    layer.control().limit("units").unwrap().global()
}

async fn used(layer: &RateLimitLayer) -> u64 {
    key(layer).usage().await.unwrap().map_or(0, |usage| usage.used())
}

/// Waits until an observation is as expected.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

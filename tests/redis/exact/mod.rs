//! That the Redis store is exact: across processes, without a trace of refusals, in bounded memory, through rolling
//! deploys, and when decisions share a round trip.
#![cfg(all(target_os = "linux", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod batched_decisions;
mod keys;
mod processes;
mod refusals;
mod rolling_deploy;

use std::time::Duration;

use tower_weir::{HardLimitFactor, OnStoreError, RateLimit, RateLimiter, RateLimiterBuilder, RedisOptions};

/// Redis at this address; a call that it does not answer within a second fails the test.
fn redis(url: impl Into<String>) -> RedisOptions {
    RedisOptions::url(url).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject)
}

/// A limiter over a window of so many seconds.
fn limiter(options: RedisOptions, window: u64) -> RateLimiter {
    builder(options, window).build().unwrap()
}

fn builder(options: RedisOptions, window: u64) -> RateLimiterBuilder {
    RateLimiter::builder().redis(options).window_size_seconds(window.try_into().unwrap())
}

fn factor(factor: f64) -> HardLimitFactor {
    HardLimitFactor::try_from(factor).unwrap()
}

fn rate(per_second: f64) -> RateLimit {
    RateLimit::try_from(per_second).unwrap()
}

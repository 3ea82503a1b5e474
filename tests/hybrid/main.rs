//! The hybrid store on a real server: what it asks of Redis, what it holds, and what it gives back.
#![cfg(all(target_os = "linux", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod bans;
mod calls;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod leases;
mod memory;
mod meter;
mod multi_instance;
#[cfg(feature = "admin")]
mod operators;
mod outages;
mod refusals;
mod settle;
#[path = "../support/mod.rs"]
mod support;
mod together;

use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimitLayer, RateLimiter, RateLimiterBuilder, RedisOptions};

use self::support::servers::Server;

/// Redis at this address; a call that it does not answer within a second fails the test.
fn redis(url: impl Into<String>) -> RedisOptions {
    RedisOptions::url(url).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject).instances(2)
}

/// A limiter over a window of so many seconds that settles every so many milliseconds.
fn builder(redis: RedisOptions, window: u64, interval: u64) -> RateLimiterBuilder {
    let builder = RateLimiter::builder().redis(redis);
    builder.window_size_seconds(window.try_into().unwrap()).sync_interval_ms(interval.try_into().unwrap())
}

fn limiter(server: &Server, window: u64, interval: u64) -> RateLimiter {
    builder(redis(server.url()), window, interval).build().unwrap()
}

fn rate(per_second: f64) -> RateLimit {
    RateLimit::try_from(per_second).unwrap()
}

/// Script calls until now.
fn scripts(server: &Server) -> u64 {
    let stats = server.commandstats();
    ["eval", "evalsha"].iter().filter_map(|name| stats.get(*name)).sum()
}

/// Asks for single units, one after the other, all of which are admitted.
async fn spend(rl: &RateLimiter, key: &str, rate: RateLimit, units: u64) {
    for unit in 0..units {
        let decision = rl.hybrid().absolute().decide(key, &rate, 1).await.unwrap();
        assert!(decision.is_allowed(), "unit {unit} of {units}: {decision:?}");
    }
}

/// Asks for single units of a key that has room for 40 in its window, until there is a lease whose rest will be
/// missed elsewhere; the units that were spent.
async fn borrow(rl: &RateLimiter, key: &str, rate: RateLimit) -> u64 {
    spend(rl, key, rate, 25).await;
    for spent in 25..40 {
        if held(rl, key).await > spent + 1 {
            return spent;
        }
        spend(rl, key, rate, 1).await;
    }
    panic!("nothing was lent");
}

/// What Redis holds against a key: what was spent, and what instances hold.
async fn held(rl: &RateLimiter, key: &str) -> u64 {
    rl.redis().absolute().get(key).await.unwrap()
}

/// The units in use of the only limit of a layer, which has one key.
async fn used(layer: &RateLimitLayer) -> u64 {
    let limit = layer.control().limits().next().unwrap();
    limit.global().usage().await.unwrap().unwrap().used()
}

/// Waits until so many units are in use.
async fn until_used(layer: &RateLimitLayer, want: u64, about: &str) {
    let began = Instant::now();
    loop {
        let used = used(layer).await;
        if used == want {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{about}: {used} of {want} in use");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

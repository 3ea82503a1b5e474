//! The end of an outage under `LocalShare`: what the shares admitted counts in Redis.

use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, WindowSizeSeconds};

use crate::support::servers::{Flavor, Server, wait_until};

const CAPACITY: u64 = 100;
const INSTANCES: u64 = 4;

#[test]
fn what_the_shares_admitted_is_charged_when_redis_is_back() {
    let server = Server::start(Flavor::Debian);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let window = WindowSizeSeconds::try_from(60).unwrap();
    let rate = RateLimit::try_from(CAPACITY as f64 / 60.0).unwrap();
    let limiters: Vec<RateLimiter> = (0..INSTANCES)
        .map(|_| {
            let redis = RedisOptions::url(server.url())
                .deadline(Duration::from_millis(200))
                .on_store_error(OnStoreError::LocalShare)
                .instances(INSTANCES);
            RateLimiter::builder().window_size_seconds(window).redis(redis).build().unwrap()
        })
        .collect();
    let decide =
        |limiter: &RateLimiter, key: &str| runtime.block_on(limiter.redis().absolute().decide(key, &rate, 1)).unwrap();
    server.kill();
    let mut by_shares = 0;
    for limiter in &limiters {
        for _ in 0..CAPACITY {
            by_shares += u64::from(decide(limiter, "key").is_allowed());
        }
    }
    assert_eq!(by_shares, CAPACITY, "all parts are used");
    server.restart();
    for limiter in &limiters {
        wait_until("Redis decides", || !decide(limiter, "other").is_local_share());
    }
    let by_redis: u64 = limiters.iter().map(|limiter| u64::from(decide(limiter, "key").is_allowed())).sum();
    assert_eq!(by_redis, 0, "no second budget");
    assert_eq!(runtime.block_on(limiters[0].redis().absolute().get("key")).unwrap(), CAPACITY, "each unit once");
}

/// The twin: they leave the window when they should, and not a window after the outage.
#[test]
fn what_the_shares_admitted_leaves_the_window_in_time() {
    let server = Server::start(Flavor::Debian);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let redis = RedisOptions::url(server.url())
        .deadline(Duration::from_millis(200))
        .on_store_error(OnStoreError::LocalShare)
        .instances(1);
    let window = WindowSizeSeconds::try_from(4).unwrap();
    let limiter = RateLimiter::builder().window_size_seconds(window).redis(redis).build().unwrap();
    let rate = RateLimit::try_from(CAPACITY as f64 / 4.0).unwrap();
    let decide = |key: &str| runtime.block_on(limiter.redis().absolute().decide(key, &rate, 1)).unwrap();
    server.kill();
    wait_until("the share decides", || decide("warm").is_local_share());
    let began = Instant::now();
    while decide("key").is_allowed() {}
    let spent = Instant::now();
    // Late in the window, Redis is back.
    std::thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
    server.restart();
    wait_until("Redis decides", || !decide("other").is_local_share());
    let back = spent.elapsed();
    let refusal = decide("key");
    // Counted from the end of the outage, they would leave the window after more than 7 s.
    if spent.elapsed() < Duration::from_millis(3_700) {
        let wait = refusal.retry_after().unwrap();
        assert!(!refusal.is_allowed() && began.elapsed() + wait < Duration::from_millis(6_000), "{wait:?}");
    }
    // A refusal is judged by when it was asked for: however late a busy machine answers, no unit is in the window then.
    let mut sent = Instant::now();
    while !decide("key").is_allowed() {
        assert!(sent - spent < Duration::from_millis(5_500), "refused after {:?}; back after {back:?}", sent - spent);
        std::thread::sleep(Duration::from_millis(5));
        sent = Instant::now();
    }
}

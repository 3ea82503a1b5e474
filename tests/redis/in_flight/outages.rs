//! What happens to permits while Redis is down, and when it returns.

use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimitLayer, RateLimiter, RedisOptions};

use super::{cap, hold, instance, redis, send, until};
use crate::support::servers::{Flavor, Server, wait_until};

fn with_policy(options: RedisOptions, on_store_error: OnStoreError, most: u64) -> RateLimitLayer {
    let rl = RateLimiter::builder().redis(options).build().unwrap();
    let builder = RateLimitLayer::builder().limiter(rl.redis()).on_store_error(on_store_error);
    builder.limit(cap(most)).build().unwrap()
}

/// This instance is one of two, so its share is half of the cap. It includes the requests that Redis admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_outage_an_instance_holds_its_share_and_counts_it_in_redis_afterwards() {
    let server = Server::start(Flavor::Debian);
    let layer = with_policy(redis(&server), OnStoreError::LocalShare, 6);
    let other = instance(&server, false, [cap(6)]);
    let mut held = hold(&layer, "a", 2).await;
    server.kill();
    held.extend(hold(&layer, "a", 1).await);
    for _ in 0..8 {
        assert_eq!(send(&layer, "a").await.status(), 429, "the share is 3 of 6");
    }
    // One that Redis admitted, and one of the share.
    drop(held.remove(0));
    held.extend(hold(&layer, "a", 1).await);
    drop(held.pop());
    held.extend(hold(&layer, "a", 1).await);
    assert_eq!(send(&layer, "a").await.status(), 429);
    // The other limits of the outage are those of other keys.
    drop(hold(&layer, "b", 3).await);
    server.restart();
    // The first answer of Redis to this instance already counts them, although the server has lost its data.
    let began = Instant::now();
    let key = layer.control().limit("cap").unwrap().key("a");
    let first = loop {
        // The figures of the share have its own limit.
        match key.usage().await.unwrap().unwrap() {
            usage if usage.limit() == 6 => break usage.used(),
            share => assert_eq!((share.limit(), share.used()), (3, 3)),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "Redis does not decide again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(first, 3);
    until(&other, "a", 3).await;
    until(&other, "b", 0).await;
    let rest = hold(&other, "a", 3).await;
    assert_eq!(send(&other, "a").await.status(), 429);
    drop(held);
    until(&other, "a", 3).await;
    drop(rest);
    until(&layer, "a", 0).await;
}

/// Redis keeps its data, and permits of the outage are returned in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_that_return_during_an_outage_are_free_after_their_time_to_live() {
    let server = Server::start(Flavor::Debian);
    let options = redis(&server).deadline(Duration::from_millis(100));
    let layer = with_policy(options, OnStoreError::LocalShare, 4);
    let held = hold(&layer, "a", 2).await;
    server.pause();
    drop(held);
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.resume();
    // The refunds may have reached Redis or not.
    until(&layer, "a", 0).await;
    let held = hold(&layer, "a", 4).await;
    assert_eq!(send(&layer, "a").await.status(), 429);
    drop(held);
}

#[tokio::test]
async fn the_other_policies_hold_no_permits_in_an_outage() {
    for (policy, status) in [(OnStoreError::Reject, 503), (OnStoreError::Allow, 200)] {
        let server = Server::start(Flavor::Debian);
        let layer = with_policy(redis(&server), policy, 1);
        drop(hold(&layer, "a", 1).await);
        until(&layer, "a", 0).await;
        server.kill();
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(send(&layer, "a").await);
            assert_eq!(held.last().unwrap().status().as_u16(), status);
        }
        server.restart();
        until(&layer, "a", 0).await;
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            wait_until("Redis decides again", || {
                runtime.block_on(async {
                    let [one, two] = [send(&layer, "a").await, send(&layer, "a").await];
                    [one.status().as_u16(), two.status().as_u16()] == [200, 429]
                })
            });
        })
        .await
        .unwrap();
        drop(held);
    }
}

//! A permit counts for as long as its request lives, and no longer.

use std::time::{Duration, Instant};

use super::{TTL, cap, hold, instance, send, try_used, until, used};
use crate::support::servers::{Flavor, Server};

/// Requests that began at different times, on both kinds of store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lives_for_three_times_to_live_keeps_its_permit() {
    let server = Server::start(Flavor::Debian);
    let [one, two] = [false, true].map(|is_hybrid| instance(&server, is_hybrid, [cap(6)]));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.extend(hold(&one, "a", 1).await);
        tokio::time::sleep(Duration::from_millis(35)).await;
        held.extend(hold(&two, "a", 1).await);
        tokio::time::sleep(Duration::from_millis(35)).await;
    }
    let began = Instant::now();
    let mut looks = 0;
    while began.elapsed() < 3 * TTL {
        assert_eq!(send(&one, "a").await.status(), 429);
        assert_eq!(used(&two, "a").await, 6, "after {:?}", began.elapsed());
        looks += 1;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert!(looks > 20, "{looks}");
    // They are renewed together, so they return from a tick that they share.
    while !held.is_empty() {
        drop(held.swap_remove(held.len() / 2));
        until(&one, "a", held.len() as u64).await;
    }
    assert_eq!(server.cli(&["DBSIZE"]), "1", "the empty value expires by itself");
}

/// The task that renews runs on the first runtime. When that ends, it moves to another one that has requests in flight.
#[test]
fn a_permit_outlives_the_runtime_that_renewed_it() {
    let server = Server::start(Flavor::Debian);
    let layer = instance(&server, false, [cap(2)]);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let on_first = first.block_on(hold(&layer, "a", 1));
    let on_second = second.block_on(hold(&layer, "a", 1));
    first.shutdown_background();
    drop(on_first);
    let began = Instant::now();
    second.block_on(async {
        while began.elapsed() < 2 * TTL {
            // The connection ended with the first runtime, and the next call opens another one.
            let in_flight = try_used(&layer, "a").await;
            assert!(in_flight.is_none_or(|count| count >= 1), "after {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The refund of the other permit had a runtime too.
        until(&layer, "a", 1).await;
        drop(on_second);
        until(&layer, "a", 0).await;
    });
}

/// A permit may return on a thread without a runtime.
#[test]
fn a_permit_returns_from_a_thread_without_a_runtime() {
    let server = Server::start(Flavor::Debian);
    let layer = instance(&server, false, [cap(1)]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let held = runtime.block_on(hold(&layer, "a", 1));
    std::thread::spawn(move || drop(held)).join().unwrap();
    runtime.block_on(until(&layer, "a", 0));
}

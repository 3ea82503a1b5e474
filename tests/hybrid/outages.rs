//! What an instance knows of itself when Redis is gone.

use std::time::{Duration, Instant};

use tower_weir::OnStoreError;

use crate::support::servers::{Flavor, Server};
use crate::{builder, held, limiter, rate, redis, scripts, spend};

/// The failures of another key open the breaker while this one's lease is in use: nobody has settled it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_part_counts_what_was_spent_of_a_lease() {
    let server = Server::start(Flavor::Debian);
    let options = redis(server.url()).on_store_error(OnStoreError::LocalShare).deadline(Duration::from_millis(100));
    let rl = builder(options, 60, 1_000).build().unwrap();
    let other = limiter(&server, 60, 1_000);
    // A part of 30.
    let (rate, calls) = (rate(1.0), rl.hybrid().absolute());
    spend(&rl, "k", rate, 10).await;
    assert!(held(&other, "k").await > 10, "a lease is held");
    server.pause();
    let began = Instant::now();
    for another in 0..20 {
        let decision = calls.decide(format!("another {another}"), &rate, 1).await.unwrap();
        assert!(decision.is_allowed() && decision.is_local_share(), "{decision:?}");
    }
    let (mut leased, mut shared) = (10, 0);
    loop {
        let decision = calls.decide("k", &rate, 1).await.unwrap();
        match decision.is_allowed() {
            true if decision.is_local_share() => shared += 1,
            true => leased += 1,
            false => break,
        }
    }
    println!("{leased} by Redis and from the lease, {shared} by the part");
    assert!(leased > 10, "the lease is spent to its end");
    assert!(shared == 0 || leased + shared <= 30, "{leased} and {shared} of a part of 30");
    assert!(leased >= 30 || leased + shared == 30, "{leased} and {shared} of a part of 30");
    server.resume();
    // A key whose settling has failed is lent to again.
    while calls.decide("another 0", &rate, 1).await.unwrap().is_local_share() {
        assert!(began.elapsed() < Duration::from_secs(60), "Redis does not decide");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.reset_stats();
    spend(&rl, "another 0", rate, 20).await;
    assert!(scripts(&server) < 20, "each request asks Redis");
}

//! What an instance remembers of its keys.

use crate::support::servers::{Flavor, Server, wait_until};
use crate::{builder, held, limiter, rate, redis, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_bounded_and_all_are_served() {
    let server = Server::start(Flavor::Debian);
    let rl = builder(redis(server.url()), 1, 50).max_keys(100).build().unwrap();
    for key in 0..1_000 {
        spend(&rl, &key.to_string(), rate(2.0), 2).await;
        assert!(rl.hybrid().keys() <= 100, "{} keys", rl.hybrid().keys());
    }
    assert!(rl.hybrid().keys() > 0);
    wait_until("idle keys are forgotten", || rl.hybrid().keys() == 0);
}

/// Nobody comes to ask for more, and nothing is left to be given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_lease_is_spent_to_the_last_unit_is_forgotten() {
    let server = Server::start(Flavor::Debian);
    // Leases of two seconds.
    let (rl, other) = (limiter(&server, 4, 1_000), limiter(&server, 4, 1_000));
    let rate = rate(10_000.0);
    for key in (0..20).map(|key| format!("key {key}")) {
        spend(&rl, &key, rate, 10).await;
        let spent = rl.hybrid().absolute().get_estimate(&key).unwrap();
        let left = held(&other, &key).await - spent;
        assert!(rl.hybrid().absolute().inc(&key, &rate, left).await.unwrap().is_allowed());
        assert_eq!(rl.hybrid().absolute().get_estimate(&key).unwrap(), spent + left);
    }
    assert_eq!(rl.hybrid().keys(), 20);
    wait_until("idle keys are forgotten", || rl.hybrid().keys() == 0);
}

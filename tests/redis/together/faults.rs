//! Requests with several limits while Redis fails.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower_weir::store::{Budget, DecisionsResponse, Policy, Store, Strategy, decide_together};
use tower_weir::{OnStoreError, RedisOptions};

use super::{decide, limiter, open, part, patient, peek, used};
use crate::support::servers::{Flavor, Server, SlowProxy};

const DEADLINE: Duration = Duration::from_millis(150);
const AT_ONCE: u64 = 6;

/// Waits until Redis itself decides.
async fn returns(budget: &Arc<dyn Budget>) {
    let began = Instant::now();
    loop {
        let decided = decide(&[part(budget, "probe", 0)]).await;
        if decided.get(0).is_some_and(|decision| !decision.is_local_share()) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "Redis does not return");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends requests at once; returns how many were admitted.
async fn send(a: &Arc<dyn Budget>, b: &Arc<dyn Budget>) -> u64 {
    let ask = async || decide(&[part(a, "x", 1), part(b, "y", 1)]).await.is_allowed();
    let results = join_all((0..AT_ONCE).map(|_| ask())).await;
    results.into_iter().map(u64::from).sum()
}

/// Calls whose replies are lost are charged once at most, and to both limits.
#[tokio::test]
async fn a_lost_reply_is_one_charge_at_most_on_every_limit() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    let rl = limiter(patient(RedisOptions::url(proxy.url())).deadline(DEADLINE));
    let (a, b) = (open(&rl, "a", "1000/h"), open(&rl, "b", "2000/h"));
    returns(&a).await;
    let mut known = 0;
    for _ in 0..4 {
        proxy.hold_replies();
        known += send(&a, &b).await;
        proxy.cut();
        proxy.heal();
        returns(&a).await;
        known += send(&a, &b).await;
    }
    let (used_a, used_b) = (used(&a, "x").await, used(&b, "y").await);
    println!("{known} known, {used_a} charged");
    assert_eq!(used_a, used_b, "a request is charged to both or to none");
    assert!((known + 1..=8 * AT_ONCE).contains(&used_a), "{known} known, {used_a} charged");
}

#[tokio::test]
async fn no_limit_is_exceeded_while_the_server_stalls_and_it_recovers() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(patient(RedisOptions::url(server.url())).deadline(DEADLINE));
    let (a, b) = (open(&rl, "a", "40/h"), open(&rl, "b", "50/h"));
    returns(&a).await;
    let mut known = 0;
    for _ in 0..3 {
        server.pause();
        known += send(&a, &b).await;
        server.resume();
        returns(&a).await;
    }
    let doubtful = used(&a, "x").await;
    let began = Instant::now();
    while used(&a, "x").await < 40 {
        send(&a, &b).await;
        assert!(began.elapsed() < Duration::from_secs(60), "Redis does not serve");
    }
    send(&a, &b).await;
    let (used_a, used_b) = (used(&a, "x").await, used(&b, "y").await);
    assert_eq!((used_a, used_b), (40, 40), "all units are in use, {doubtful} of them after the faults");
    assert!(known <= doubtful && doubtful <= 3 * AT_ONCE, "{known} known, {doubtful} charged");
}

/// The shares of all limits decide together, and Redis learns what they admitted.
#[tokio::test]
async fn the_shares_decide_together_during_an_outage() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(patient(RedisOptions::url(server.url()).instances(1)).deadline(DEADLINE));
    let with_share = |name: &str, quota: &str| {
        let policy = Policy::new(name, vec![quota.parse().unwrap()], Strategy::Absolute);
        rl.redis().open(&policy.with_on_store_error(OnStoreError::LocalShare)).unwrap()
    };
    let (a, b, strict) = (with_share("a", "9/h"), with_share("b", "5/h"), open(&rl, "strict", "99/h"));
    let both = [part(&a, "x", 1), part(&b, "y", 1)];
    assert!(decide(&both).await.is_allowed());
    server.kill();
    while !decide(&[part(&strict, "k", 1)]).await.is_unavailable() {}
    for _ in 0..6 {
        assert!(decide(&[part(&strict, "k", 1)]).await.is_unavailable());
    }
    // The breaker is open, so these requests certainly do not run on the server.
    let mut admitted = 0;
    for _ in 0..8 {
        let decisions = decide(&both).await;
        assert!([0, 1].iter().all(|&index| decisions.get(index).unwrap().is_local_share()));
        assert!(!decisions.is_unavailable());
        admitted += u64::from(decisions.is_allowed());
    }
    assert_eq!(admitted, 4, "the first admission counts too");
    assert_eq!(peek(&a, "x", 0).await.used(), 5, "a refused request is charged to no share");
    let refused = decide(&[both[0], part(&strict, "k", 1)]).await;
    assert!(refused.is_unavailable() && refused.get(0).unwrap().is_allowed(), "{refused:?}");
    assert_eq!(peek(&a, "x", 0).await.used(), 5, "nor is one that a limit without a share refuses");
    let admitted = decide(&[both[0], part(&strict, "k", 1).admitted_on_error(true)]).await;
    assert!(admitted.is_allowed() && admitted.get(1).is_none(), "{admitted:?}");

    server.restart();
    returns(&a).await;
    let began = Instant::now();
    while (used(&a, "x").await, used(&b, "y").await) != (5, 4) {
        assert!(began.elapsed() < Duration::from_secs(20), "{} {}", used(&a, "x").await, used(&b, "y").await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while !decide(&[part(&a, "x", 0), part(&strict, "k", 1)]).await.is_allowed() {
        assert!(began.elapsed() < Duration::from_secs(60), "Redis does not serve both limits");
    }
}

#[tokio::test]
async fn a_dropped_request_is_charged_to_both_limits_or_to_none() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    let rl = limiter(patient(RedisOptions::url(proxy.url())));
    let (a, b) = (open(&rl, "a", "1000/h"), open(&rl, "b", "1000/h"));
    returns(&a).await;
    proxy.delay(Duration::ZERO, Duration::from_millis(20));
    for _ in 0..30 {
        let DecisionsResponse::Pending(mut pending) = decide_together(&[part(&a, "x", 1), part(&b, "y", 1)]) else {
            panic!("Redis decides")
        };
        for _ in 0..3 {
            poll_fn(|cx| Poll::Ready(pending.as_mut().poll(cx).is_ready())).await;
            tokio::task::yield_now().await;
        }
        drop(pending);
    }
    assert_eq!(send(&a, &b).await, AT_ONCE, "the others are served");
    let (used_a, used_b) = (used(&a, "x").await, used(&b, "y").await);
    assert_eq!(used_a, used_b);
    assert!((AT_ONCE..=AT_ONCE + 30).contains(&used_a), "{used_a}");
}

//! The Redis store without tokio: on smol, and outside of every runtime.
#![cfg(all(unix, feature = "redis-smol"))]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{OnStoreError, RateLimit, RateLimitDecision, RateLimiter, RedisOptions};

use crate::support::servers::{Flavor, Server};

fn limiter(server: &Server, window: u64) -> RateLimiter {
    let redis = RedisOptions::url(server.url()).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject);
    RateLimiter::builder().redis(redis).window_size_seconds(window.try_into().unwrap()).build().unwrap()
}

fn rate(per_second: f64) -> RateLimit {
    RateLimit::try_from(per_second).unwrap()
}

#[test]
fn a_limiter_works_on_smol() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = limiter(&server, 3);
        smol::block_on(async {
            let (calls, rate) = (rl.redis().absolute(), rate(10.0 / 3.0));
            for used in 1..=10 {
                assert_eq!(calls.decide("k", &rate, 1).await.unwrap().used(), used);
            }
            let refusal = calls.inc("k", &rate, 1).await.unwrap();
            assert!(matches!(refusal, RateLimitDecision::Rejected { .. }), "{refusal:?}");
            smol::Timer::after(refusal.retry_after().unwrap()).await;
            assert_eq!(calls.inc("k", &rate, 1).await.unwrap(), RateLimitDecision::Allowed);
            assert!(calls.delete("k").await.unwrap().is_some_and(|used| used <= 10));
            assert_eq!(rl.redis().suppressed().get_suppression_factor("k", &rate).await.unwrap(), 0.0);
            calls.clear().await.unwrap();
        });
    }
}

/// Many on smol's own threads, whose decisions travel together, on a limiter that other threads use as well.
#[test]
fn tasks_on_smol_get_exactly_the_limit() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server, 60);
    let admitted = |rl: RateLimiter| async move {
        let mut admitted = 0;
        for _ in 0..10 {
            let decision = rl.redis().absolute().inc("k", &rate(100.0 / 60.0), 1).await.unwrap();
            admitted += usize::from(decision.is_allowed());
        }
        admitted
    };
    let thread = std::thread::spawn({
        let rl = rl.clone();
        move || smol::block_on(join_all((0..16).map(|_| admitted(rl.clone()))))
    });
    let here = smol::block_on(join_all((0..16).map(|_| smol::spawn(admitted(rl.clone())))));
    let total: usize = here.into_iter().chain(thread.join().unwrap()).sum();
    assert_eq!(total, 100);
}

/// Leases are renewed and given back on smol's own threads.
#[test]
fn the_hybrid_store_works_on_smol() {
    let server = Server::start(Flavor::Debian);
    let (rl, other) = (limiter(&server, 60), limiter(&server, 60));
    smol::block_on(async {
        let rate = rate(1_000.0);
        let mut admitted = 0;
        for _ in 0..400 {
            admitted += u64::from(rl.hybrid().absolute().inc("k", &rate, 1).await.unwrap().is_allowed());
            smol::Timer::after(Duration::from_millis(1)).await;
        }
        assert_eq!(admitted, 400);
        rl.hybrid().shutdown().await;
        assert_eq!(other.hybrid().absolute().get("k").await.unwrap(), admitted);
    });
}

/// A refund is done in the background, for which no runtime of the caller is needed.
#[test]
fn a_refund_arrives_without_a_runtime_around_it() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server, 60);
    let budget = rl.redis().open(&Policy::new("api", ["10/min".parse().unwrap()], Strategy::Absolute)).unwrap();
    let decide = |budget: &dyn Budget, cost| match budget.decide(BudgetRequest::new(b"k", cost)) {
        BudgetResponse::Ready(result) => result.unwrap(),
        BudgetResponse::Pending(pending) => smol::block_on(pending).unwrap(),
    };
    let charged = decide(&*budget, 10);
    assert!(charged.is_allowed() && !charged.is_local_share());
    assert!(!decide(&*budget, 1).is_allowed());
    budget.refund(b"k", 4, &charged);
    let began = Instant::now();
    while !decide(&*budget, 4).is_allowed() {
        assert!(began.elapsed() < Duration::from_secs(30), "the refund has not arrived");
        std::thread::sleep(Duration::from_millis(2));
    }
}

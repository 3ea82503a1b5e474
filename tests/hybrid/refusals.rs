//! Refusals that an instance keeps, and what ends them before their time.

use std::future::Future;
use std::time::Duration;

use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{Decision, Quota, RateLimit, RateLimitComparator, RateLimiter};

use crate::support::ledger::now;
use crate::support::servers::{Flavor, Server};
use crate::{borrow, held, limiter, rate, scripts, spend};

/// In seconds. A refusal of a full key is kept for nearly all of it.
const WINDOW: u64 = 120;
/// Far less than a refusal is kept for, and far more than a busy machine takes.
const PATIENCE_NS: u64 = 30_000_000_000;

/// 40 units in a window.
fn forty() -> RateLimit {
    rate(40.0 / WINDOW as f64)
}

/// Asks for one unit.
async fn is_admitted(rl: &RateLimiter, key: &str) -> bool {
    rl.hybrid().absolute().inc(key, &forty(), 1).await.unwrap().is_allowed()
}

/// Asks until the request is admitted.
async fn until_admitted<F: Future<Output = bool>>(what: &str, mut request: impl FnMut() -> F) {
    let began = now();
    while !request().await {
        assert!(now() - began < PATIENCE_NS, "a refusal outlives {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fills a key, and sees that a refusal is kept.
async fn fill(rl: &RateLimiter, server: &Server, key: &str) {
    assert!(rl.hybrid().absolute().inc(key, &forty(), 40).await.unwrap().is_allowed());
    assert!(!is_admitted(rl, key).await);
    let calls = scripts(server);
    assert!(!is_admitted(rl, key).await);
    assert_eq!(scripts(server), calls, "the refusal is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_with_a_changed_total() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server, WINDOW, 50);
    let calls = rl.hybrid().absolute();
    fill(&rl, &server, "set").await;
    assert!(calls.set_if("set", &forty(), RateLimitComparator::Always, 39).await.unwrap().matched);
    assert!(is_admitted(&rl, "set").await && !is_admitted(&rl, "set").await);
    fill(&rl, &server, "delete").await;
    assert_eq!(calls.delete("delete").await.unwrap(), Some(40));
    assert!(is_admitted(&rl, "delete").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_with_a_raised_limit() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server, WINDOW, 50);
    fill(&rl, &server, "k").await;
    spend(&rl, "k", rate(41.0 / WINDOW as f64), 1).await;
    assert!(!is_admitted(&rl, "k").await);
}

async fn decide(budget: &dyn Budget, cost: u64) -> Decision {
    match budget.decide(BudgetRequest::new(b"k", cost)) {
        BudgetResponse::Ready(result) => result.unwrap(),
        BudgetResponse::Pending(pending) => pending.await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_with_a_refund() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server, WINDOW, 50);
    let quota = Quota::new(40, Duration::from_secs(WINDOW)).unwrap();
    let budget = rl.hybrid().open(&Policy::new("api", [quota], Strategy::Absolute)).unwrap();
    let charged = decide(&*budget, 40).await;
    assert!(charged.is_allowed() && !decide(&*budget, 1).await.is_allowed());
    let calls = scripts(&server);
    assert!(!decide(&*budget, 1).await.is_allowed());
    assert_eq!(scripts(&server), calls, "the refusal is kept");
    budget.refund(b"k", 2, &charged);
    until_admitted("a refund", || async { decide(&*budget, 1).await.is_allowed() }).await;
    assert!(decide(&*budget, 1).await.is_allowed() && !decide(&*budget, 1).await.is_allowed());
}

/// Whether the rest is taken, and a unit refused, while the other instance holds a lease.
async fn is_refused_beside_a_lease(one: &RateLimiter, other: &RateLimiter, key: &str) -> bool {
    borrow(other, key, forty()).await;
    let free = 40 - held(one, key).await;
    free > 0
        && one.hybrid().absolute().inc(key, &forty(), free).await.unwrap().is_allowed()
        && !is_admitted(one, key).await
        && held(one, key).await == 40
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_with_another_instances_lease() {
    let server = Server::start(Flavor::Debian);
    // Leases of some seconds.
    let (one, other) = (limiter(&server, WINDOW, 1_000), limiter(&server, WINDOW, 1_000));
    for attempt in 0..10 {
        let key = format!("attempt {attempt}");
        // A machine that stands still for that long ends the lease before; then another key is tried.
        if is_refused_beside_a_lease(&one, &other, &key).await {
            other.hybrid().shutdown().await;
            return until_admitted("a lease that was given back", || is_admitted(&one, &key)).await;
        }
    }
    panic!("nothing was refused beside a lease");
}

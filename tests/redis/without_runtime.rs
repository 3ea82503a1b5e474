//! The Redis store with no runtime but tokio compiled in, called where none is: it says so, or follows its policy.
#![cfg(all(unix, feature = "redis-tokio", not(feature = "redis-smol")))]
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt;
use tower_weir::store::{BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{OnStoreError, RateLimit, RateLimitComparator, RateLimiter, RedisOptions};

use crate::support::servers::{Flavor, Server};

fn limiter(server: &Server, policy: OnStoreError) -> RateLimiter {
    RateLimiter::builder().redis(RedisOptions::url(server.url()).on_store_error(policy)).build().unwrap()
}

/// The result of a call that does not wait.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("outside a runtime nothing is waited for")
}

#[test]
fn outside_a_runtime_calls_fail_or_follow_the_policy() {
    let server = Server::start(Flavor::Debian);
    let rate = RateLimit::try_from(1.0).unwrap();
    let rl = limiter(&server, OnStoreError::Reject);
    let calls = rl.redis().absolute();
    for _ in 0..20 {
        assert!(at_once(calls.inc("k", &rate, 1)).is_err());
        assert!(at_once(calls.get("k")).is_err());
        assert!(at_once(calls.set_if("k", &rate, RateLimitComparator::Always, 1)).is_err());
        assert!(at_once(calls.delete("k")).is_err());
        assert!(at_once(calls.clear()).is_err());
    }
    let rl = limiter(&server, OnStoreError::Allow);
    assert!(at_once(rl.redis().absolute().inc("k", &rate, 61)).unwrap().is_allowed());
    let rl = limiter(&server, OnStoreError::LocalShare);
    let decision = at_once(rl.redis().absolute().decide("k", &rate, 1)).unwrap();
    assert!(decision.is_allowed() && decision.is_local_share(), "{decision:?}");

    let decision = at_once(rl.hybrid().absolute().decide("k", &rate, 1)).unwrap();
    assert!(decision.is_allowed() && decision.is_local_share(), "{decision:?}");
    at_once(rl.hybrid().shutdown());

    let budget = rl.redis().open(&Policy::new("api", ["2/min".parse().unwrap()], Strategy::Absolute)).unwrap();
    let decide = |cost| match budget.decide(BudgetRequest::new(b"k", cost)) {
        BudgetResponse::Ready(result) => result.unwrap(),
        BudgetResponse::Pending(pending) => at_once(pending).unwrap(),
    };
    let charged = decide(2);
    assert!(charged.is_allowed() && charged.is_local_share() && !decide(1).is_allowed());
    budget.refund(b"k", 1, &charged);
    assert!(decide(1).is_allowed() && !decide(1).is_allowed());
}

/// What was refused outside is decided inside, once the breaker has found Redis again.
#[test]
fn within_a_runtime_the_same_limiter_works() {
    let server = Server::start(Flavor::Debian);
    let rate = RateLimit::try_from(1.0).unwrap();
    let rl = limiter(&server, OnStoreError::Reject);
    assert!(at_once(rl.redis().absolute().inc("k", &rate, 1)).is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(rl.redis().absolute().inc("k", &rate, 60).await.unwrap().is_allowed());
        assert!(!rl.redis().absolute().inc("k", &rate, 1).await.unwrap().is_allowed());
        assert!(!rl.hybrid().absolute().inc("k", &rate, 1).await.unwrap().is_allowed(), "it is the same limit");
    });
}

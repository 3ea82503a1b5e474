//! Decisions on several limits of a Redis store: each request is charged to all of them or to none.
#![cfg(all(target_os = "linux", feature = "redis-tokio", feature = "redis-cluster"))]
#![allow(clippy::unwrap_used)]

mod calls;
mod faults;
mod model;
mod tasks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_weir::store::{
    Budget, BudgetRequest, BudgetResponse, Decisions, DecisionsResponse, Part, Policy, Store, Strategy, decide_together,
};
use tower_weir::{Decision, OnStoreError, RateLimiter, RedisOptions};

/// Settings under which a slow machine is not taken for an outage.
fn patient(options: RedisOptions) -> RedisOptions {
    options.deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject)
}

fn limiter(options: RedisOptions) -> RateLimiter {
    RateLimiter::builder().redis(options).build().unwrap()
}

fn policy(name: &str, quotas: &[&str], strategy: Strategy) -> Policy {
    let quotas: Vec<_> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    Policy::new(name, quotas, strategy).with_on_store_error(OnStoreError::Reject)
}

fn open(rl: &RateLimiter, name: &str, quota: &str) -> Arc<dyn Budget> {
    rl.redis().open(&policy(name, &[quota], Strategy::Absolute)).unwrap()
}

/// An enforced part of a request.
fn part<'a>(budget: &'a Arc<dyn Budget>, key: &'a str, cost: u64) -> Part<'a> {
    Part::new(budget, BudgetRequest::new(key.as_bytes(), cost))
}

async fn decide(parts: &[Part<'_>]) -> Decisions {
    match decide_together(parts) {
        DecisionsResponse::Ready(decisions) => decisions,
        DecisionsResponse::Pending(pending) => pending.await,
    }
}

/// Looks until the store can decide, because a busy machine may miss a deadline.
async fn peek(budget: &Arc<dyn Budget>, key: &str, cost: u64) -> Decision {
    let began = Instant::now();
    loop {
        let result = match budget.peek(BudgetRequest::new(key.as_bytes(), cost)) {
            BudgetResponse::Ready(result) => result,
            BudgetResponse::Pending(pending) => pending.await,
        };
        match result {
            Ok(decision) => return decision,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn used(budget: &Arc<dyn Budget>, key: &str) -> u64 {
    peek(budget, key, 0).await.used()
}

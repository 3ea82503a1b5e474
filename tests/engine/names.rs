//! What a limiter keeps by the names of limits, while configurations come and go.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{ConfigError, ManualClock, Quota, RateLimiter, RateLimiterOptions};

fn limiter() -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.set_ms(1_000_000_000);
    let options = RateLimiterOptions { clock: Some(Arc::new(clock.clone())), ..RateLimiterOptions::default() };
    (clock, RateLimiter::new(options).unwrap())
}

fn open(limiter: &RateLimiter, quotas: &[&str]) -> Result<Arc<dyn Budget>, ConfigError> {
    let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    limiter.local().open(&Policy::new("api", quotas, Strategy::Absolute))
}

fn admits(budget: &Arc<dyn Budget>, cost: u64) -> bool {
    match budget.decide(BudgetRequest::new(b"k", cost)) {
        BudgetResponse::Ready(Ok(decision)) => decision.is_allowed(),
        other => panic!("{other:?}"),
    }
}

/// A configuration is reloaded a hundred times, each time with another window, before or after the old one is dropped.
#[test]
fn a_configuration_is_reloaded_any_number_of_times() {
    let (clock, rl) = limiter();
    let mut running = open(&rl, &["10/1s"]).unwrap();
    for seconds in 2..100_u64 {
        drop(open(&rl, &[&format!("10/{}s", 1_000 - seconds)]).unwrap());
        running = open(&rl, &[&format!("10/{seconds}s")]).unwrap();
        assert!(admits(&running, 1) == (seconds <= 11), "one history: reload {seconds}");
    }
    clock.advance(Duration::from_secs(100));
    assert!(admits(&running, 10) && !admits(&running, 1));
}

/// What is in use at once is bounded, and the error says so; what is gone takes no room.
#[test]
fn windows_in_use_at_once_are_bounded() {
    let (_, rl) = limiter();
    let windows: Vec<String> = (1..=9).map(|n| format!("10/{n}s")).collect();
    let mut held: Vec<_> = windows[..8].iter().map(|quota| open(&rl, &[quota]).unwrap()).collect();
    assert_eq!(open(&rl, &[&windows[8]]).unwrap_err(), ConfigError::TooManyQuotas { most: 8 });
    held.pop();
    assert!(open(&rl, &[&windows[8]]).is_ok());
}

/// A limit that is gone for less than its window finds its history, though many others were opened meanwhile.
///
/// The twin: after its window nothing counts any more, and its history is not kept for it.
#[test]
fn a_limit_that_comes_back_within_its_window_finds_its_history() {
    let (clock, rl) = limiter();
    let long = open(&rl, &["10/1h"]).unwrap();
    assert!(admits(&long, 10));
    drop(long);
    for seconds in 1..=30_u64 {
        clock.advance(Duration::from_secs(60));
        let windows: Vec<String> = (0..8).map(|n| format!("100/{}s", seconds + n)).collect();
        let short = open(&rl, &windows.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(admits(&short, 1));
    }
    clock.advance(Duration::from_secs(29 * 60));
    let long = open(&rl, &["10/1h"]).unwrap();
    assert!(!admits(&long, 1), "59 minutes after");
    drop(long);
    clock.advance(Duration::from_secs(2 * 3_600));
    let long = open(&rl, &["10/1h"]).unwrap();
    assert!(admits(&long, 10) && !admits(&long, 1));
}

/// Two that are in use share one history by name, and it stays if one of them goes.
#[test]
fn a_name_is_one_history_while_anyone_uses_it() {
    let (clock, rl) = limiter();
    let (first, second) = (open(&rl, &["10/60s"]).unwrap(), open(&rl, &["10/60s"]).unwrap());
    assert!(admits(&first, 6));
    drop(first);
    clock.advance(Duration::from_secs(30));
    let third = open(&rl, &["10/60s"]).unwrap();
    assert!(admits(&second, 4) && !admits(&third, 1));
}

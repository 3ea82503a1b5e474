//! The paths of the local store.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tower_weir::store::{BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{ManualClock, RateLimit, RateLimiter, RateLimiterOptions};

use crate::{Path, counted_calls};

pub const PATHS: &[Path] = &[
    ("hot-admit", hot_admit),
    ("hot-admit-moving-clock", hot_admit_moving_clock),
    ("hot-admit-system-clock", hot_admit_system_clock),
    ("hot-reject", hot_reject),
    ("100k-admit", || many(WIDE, true)),
    ("100k-reject", || many(ONE_AN_HOUR, false)),
    ("suppressed-below", suppressed_below),
    ("suppressed-over", suppressed_over),
    ("two-quotas", two_quotas),
];

const KEY: &str = "user:00000000042";
const CALLS: u64 = 20_000;
const KEYS: u32 = 100_000;

/// Units per second, and the window in seconds.
type Limit = (f64, u64);
/// No path reaches this limit.
const WIDE: Limit = (1e9, 60);
/// One unit in an hour, so that a second one is rejected.
const ONE_AN_HOUR: Limit = (0.000_3, 3_600);
const THOUSAND_A_SECOND: Limit = (1_000.0, 1);

/// The options for a window, with a clock that does not start at 0.
fn options(clock: &ManualClock, (_, window_seconds): Limit) -> RateLimiterOptions {
    clock.set_ms(1_000_000);
    RateLimiterOptions {
        window_size_seconds: window_seconds.try_into().expect("a valid window"),
        hard_limit_factor: 1.5.try_into().expect("a valid factor"),
        clock: Some(Arc::new(clock.clone())),
        ..RateLimiterOptions::default()
    }
}

/// A limiter without a cleanup thread, and its rate.
pub fn limiter(clock: &ManualClock, limit: Limit) -> (RateLimiter, RateLimit) {
    let limiter = RateLimiter::new(options(clock, limit)).expect("consistent options");
    (limiter, limit.0.try_into().expect("a valid rate"))
}

fn hot_admit() -> u64 {
    let (limiter, rate) = limiter(&ManualClock::new(), WIDE);
    let admit = || assert!(limiter.local().absolute().inc(black_box(KEY), &rate, 1).is_allowed());
    admit();
    counted_calls(0..CALLS, |_| admit());
    CALLS
}

/// A new bucket for every tenth call, over two windows, so that old buckets are merged and dropped too.
fn hot_admit_moving_clock() -> u64 {
    let clock = ManualClock::new();
    let (limiter, rate) = limiter(&clock, WIDE);
    let admit = |_| {
        clock.advance(Duration::from_millis(1));
        assert!(limiter.local().absolute().inc(black_box(KEY), &rate, 1).is_allowed());
    };
    (0..60_000).for_each(admit);
    counted_calls(0..3 * CALLS, admit);
    3 * CALLS
}

fn hot_admit_system_clock() -> u64 {
    let options = RateLimiterOptions { clock: None, ..options(&ManualClock::new(), WIDE) };
    let limiter = RateLimiter::new(options).expect("consistent options");
    let rate = WIDE.0.try_into().expect("a valid rate");
    let admit = || assert!(limiter.local().absolute().inc(black_box(KEY), &rate, 1).is_allowed());
    admit();
    counted_calls(0..CALLS, |_| admit());
    CALLS
}

fn hot_reject() -> u64 {
    let (limiter, rate) = limiter(&ManualClock::new(), ONE_AN_HOUR);
    assert!(limiter.local().absolute().inc(KEY, &rate, 1).is_allowed());
    counted_calls(0..CALLS, |_| {
        assert!(!limiter.local().absolute().inc(black_box(KEY), &rate, 1).is_allowed());
    });
    CALLS
}

/// Calls in a random order on keys that the store knows. The secret of the fingerprints differs between runs, and the
/// mean over so many keys hides that.
fn many(limit: Limit, admits: bool) -> u64 {
    let (limiter, rate) = limiter(&ManualClock::new(), limit);
    let keys: Vec<[u8; 16]> = (0..KEYS).map(numbered).collect();
    for key in &keys {
        assert!(limiter.local().absolute().inc(key, &rate, 1).is_allowed());
    }
    let mut rng = fastrand::Rng::with_seed(42);
    let order: Vec<u32> = (0..KEYS).map(|_| rng.u32(0..KEYS)).collect();
    counted_calls(&order, |&at| {
        let key = &keys[at as usize];
        assert_eq!(limiter.local().absolute().inc(key, &rate, 1).is_allowed(), admits);
    });
    KEYS.into()
}

fn numbered(number: u32) -> [u8; 16] {
    format!("user:{number:011}").into_bytes().try_into().expect("16 bytes")
}

fn suppressed_below() -> u64 {
    let (limiter, rate) = limiter(&ManualClock::new(), WIDE);
    let admit = || assert!(limiter.local().suppressed().inc(black_box(KEY), &rate, 1).is_allowed());
    admit();
    counted_calls(0..CALLS, |_| admit());
    CALLS
}

/// Twice the limit in a steady state, so that the band decides by chance.
fn suppressed_over() -> u64 {
    let clock = ManualClock::new();
    let (limiter, rate) = limiter(&clock, THOUSAND_A_SECOND);
    let mut admitted = 0_u64;
    let mut ask = |call: u64| {
        clock.advance(Duration::from_millis(call % 2));
        admitted += u64::from(limiter.local().suppressed().inc(black_box(KEY), &rate, 1).is_allowed());
    };
    (0..CALLS / 2).for_each(&mut ask);
    counted_calls(0..CALLS, &mut ask);
    let offered = CALLS * 3 / 2;
    assert!(offered * 4 / 10 < admitted && admitted < offered * 8 / 10, "{admitted} of {offered} admitted");
    CALLS
}

/// A limit of two quotas, as a layer opens it.
fn two_quotas() -> u64 {
    let (limiter, _) = limiter(&ManualClock::new(), WIDE);
    let quotas = ["1000000000/s", "10000000000/min"].map(|quota| quota.parse().expect("a valid quota"));
    let policy = Policy::new("two", quotas, Strategy::Absolute);
    let budget = limiter.local().open(&policy).expect("a valid policy");
    let admit = || {
        let response = budget.decide(BudgetRequest::new(black_box(KEY.as_bytes()), 1));
        assert!(matches!(response, BudgetResponse::Ready(Ok(decision)) if decision.is_allowed()));
    };
    admit();
    counted_calls(0..CALLS, |_| admit());
    CALLS
}

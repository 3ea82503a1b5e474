//! The programs that the interface was drawn from, and the faults of earlier limiters that it must not repeat.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tower_weir::{
    ManualClock, RateGroupSizeMs, RateLimit, RateLimitDecision, RateLimiter, RateLimiterOptions, WindowSizeSeconds,
};

#[test]
fn a_limiter_answers_allowed_or_rejected() {
    let rl = RateLimiter::builder().build().unwrap();
    let rate = RateLimit::try_from(10.0).unwrap();
    let mut allowed = 0;
    for _ in 0..700 {
        match rl.local().absolute().inc("user_123", &rate, 1) {
            RateLimitDecision::Allowed => allowed += 1,
            RateLimitDecision::Rejected { retry_after_ms, .. } => {
                assert!((50_000..=61_000).contains(&retry_after_ms), "retry in {retry_after_ms}ms");
            }
            RateLimitDecision::Suppressed { .. } => unreachable!(),
        }
    }
    assert_eq!(allowed, 600, "10 per second over the default window of 60 s");
}

#[test]
fn windows_and_buckets_are_at_least_one() {
    let window_size_seconds = WindowSizeSeconds::try_from(60).unwrap();
    let rate_group_size_ms = RateGroupSizeMs::try_from(10).unwrap();
    assert!(WindowSizeSeconds::try_from(0).is_err()); // must be >= 1
    assert!(RateGroupSizeMs::try_from(0).is_err()); // must be >= 1
    let given = RateLimiter::builder().window_size_seconds(window_size_seconds).rate_group_size_ms(rate_group_size_ms);
    assert!(given.build().is_ok());
    assert!(WindowSizeSeconds::try_from(1).is_ok() && RateGroupSizeMs::try_from(1).is_ok());
}

#[test]
fn ten_seconds_at_half_a_request_per_second_admit_exactly_five() {
    let rl = RateLimiter::builder()
        .window_size_seconds(10.try_into().unwrap())
        .rate_group_size_ms(200.try_into().unwrap())
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let rate = RateLimit::try_from(0.5).unwrap();
    let admitted = (0..100).filter(|_| rl.local().absolute().inc("k", &rate, 1).is_allowed()).count();
    assert_eq!(admitted, 5);
    assert_eq!(rl.local().absolute().get("k"), 5);
}

#[test]
fn options_left_out_are_the_defaults() {
    let rl = RateLimiter::new(RateLimiterOptions { ..Default::default() }).unwrap();
    let rate = RateLimit::try_from(1.0).unwrap();
    assert!(rl.local().absolute().inc("k", &rate, 60).is_allowed());
    assert!(!rl.local().absolute().inc("k", &rate, 1).is_allowed());
}

#[test]
fn the_cleanup_loop_may_be_started_and_stopped_any_number_of_times() {
    let rl = RateLimiter::new(RateLimiterOptions { ..Default::default() }).unwrap();
    let rate = RateLimit::try_from(1.0).unwrap();
    rl.stop_cleanup_loop();
    for _ in 0..3 {
        rl.run_cleanup_loop();
        rl.run_cleanup_loop();
        assert!(rl.local().absolute().inc("k", &rate, 1).is_allowed());
        rl.stop_cleanup_loop();
        rl.stop_cleanup_loop();
    }
    assert_eq!(rl.local().absolute().get("k"), 3, "a live key was cleaned up");
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_router_is_limited_by_one_line() {
    use axum::{Router, body::Body, extract::ConnectInfo, http::Request, routing::get};
    use tower::ServiceExt;
    use tower_weir::RateLimitLayer;

    async fn handler() -> &'static str {
        "hello"
    }

    let app = Router::new().route("/", get(handler)).layer(RateLimitLayer::per_minute(60));
    let peer = ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
    let mut admitted = 0;
    for _ in 0..100 {
        let request = Request::get("/").extension(peer).body(Body::empty()).unwrap();
        let status = app.clone().oneshot(request).await.unwrap().status();
        assert!(status == 200 || status == 429, "{status}");
        admitted += usize::from(status == 200);
    }
    assert_eq!(admitted, 60);
}

/// A key under test: a window of ten seconds in buckets of ten milliseconds, and time that the test moves.
struct Key {
    rl: RateLimiter,
    clock: ManualClock,
}

impl Key {
    const BUCKET_MS: u64 = 10;
    const WINDOW_MS: u64 = 10_000;

    fn new() -> Self {
        let clock = ManualClock::new();
        let ten = WindowSizeSeconds::try_from(10).unwrap();
        Self { rl: RateLimiter::builder().window_size_seconds(ten).clock(clock.clone()).build().unwrap(), clock }
    }

    fn inc_at(&self, per_second: f64, n: u64) -> RateLimitDecision {
        self.rl.local().absolute().inc("k", &RateLimit::try_from(per_second).unwrap(), n)
    }

    /// Asks at one unit per second: ten in the window.
    fn inc(&self, n: u64) -> RateLimitDecision {
        self.inc_at(1.0, n)
    }

    fn used(&self) -> u64 {
        self.rl.local().absolute().get("k")
    }

    /// The wait of a refusal in milliseconds.
    fn wait_ms(&self, n: u64) -> u64 {
        match self.inc(n) {
            RateLimitDecision::Rejected { retry_after_ms, .. } => retry_after_ms,
            other => panic!("{other:?} is no refusal"),
        }
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

#[test]
fn the_weight_counts_in_the_check_even_on_an_empty_key() {
    let key = Key::new();
    let refused = key.inc(1_000_000);
    assert!(matches!(refused, RateLimitDecision::Rejected { retry_after_ms: u64::MAX, .. }), "{refused:?}");
    assert_eq!(refused.retry_after(), None, "no wait makes room for more than the capacity");
    assert_eq!((key.used(), key.rl.local().keys()), (0, 0), "a refusal left something behind");
    assert!(key.inc(10).is_allowed());
    assert_eq!(key.inc(u64::MAX).retry_after(), None, "a sum that wraps around must not fit either");
    assert_eq!(key.used(), 10);
}

/// A limiter that drops its whole window when the oldest bucket is over admits twice the capacity less one.
#[test]
fn each_unit_comes_back_when_it_expires_and_not_before() {
    let key = Key::new();
    let mut admitted: Vec<(u64, u64)> = Vec::new();
    for now in (0..40_000).step_by(10) {
        // One unit at first, and all that fits from just before its window ends.
        let most = if now < 9_990 { u64::from(now == 0) } else { u64::MAX };
        let units = (0..most).take_while(|_| key.inc(1).is_allowed()).count() as u64;
        if units > 0 {
            admitted.push((now, units));
        }
        key.pass(10);
    }
    // Held for a window and a bucket: the one unit returns alone, and then the nine.
    let want = [(0, 1), (9_990, 9), (10_010, 1), (20_000, 9), (20_020, 1), (30_010, 9), (30_030, 1)];
    assert_eq!(admitted, want);
}

#[test]
fn no_unit_of_the_capacity_is_lost_to_floating_point() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    for (per_second, capacity) in [(2.05, 123), (1.15, 69), (0.05, 3), (16.1, 966), (0.35, 21)] {
        let (rate, key) = (RateLimit::try_from(per_second).unwrap(), capacity.to_string());
        let admitted = (0..2 * capacity).filter(|_| rl.local().absolute().inc(&key, &rate, 1).is_allowed()).count();
        assert_eq!(admitted, capacity, "{per_second}/s over 60 s");
    }
}

#[test]
fn a_refusal_never_says_to_retry_at_once() {
    let key = Key::new();
    let mut refused = 0;
    for _ in 0..25_000 {
        if let RateLimitDecision::Rejected { retry_after_ms, .. } = key.inc(1) {
            assert!((1..=Key::WINDOW_MS + Key::BUCKET_MS).contains(&retry_after_ms), "{retry_after_ms}");
            refused += 1;
        }
        key.pass(1);
    }
    assert!((24_900..25_000).contains(&refused), "{refused}");
}

/// At every offset of admission and refusal within a bucket.
#[test]
fn a_retry_after_the_hint_is_admitted_and_one_millisecond_before_it_is_not() {
    for (admitted_at, refused_after) in [(0, 0), (0, 3), (3, 0), (9, 1), (7, 9_992), (1_234_567, 5_005)] {
        let key = Key::new();
        key.pass(admitted_at);
        assert!(key.inc(10).is_allowed());
        key.pass(refused_after);
        let wait = key.wait_ms(1);
        key.pass(wait - 1);
        assert_eq!(key.wait_ms(1), 1, "admitted at {admitted_at} ms, {refused_after} ms on: the hint is too late");
        key.pass(1);
        assert!(key.inc(1).is_allowed(), "admitted at {admitted_at} ms, {refused_after} ms on: the hint is too early");
    }
}

#[test]
fn a_heavier_request_is_told_to_wait_longer_and_long_enough() {
    for n in 1..=10 {
        let key = Key::new();
        for _ in 0..10 {
            assert!(key.inc(1).is_allowed());
            key.pass(500);
        }
        let wait = key.wait_ms(n);
        // The nth unit was stamped at (n - 1) x 500 ms, and is held for a window and one bucket.
        assert_eq!(wait, (n - 1) * 500 + Key::WINDOW_MS + Key::BUCKET_MS - 5_000);
        key.pass(wait - 1);
        assert!(!key.inc(n).is_allowed());
        key.pass(1);
        assert!(key.inc(n).is_allowed(), "{n} units after {wait} ms");
    }
}

#[test]
fn a_request_of_no_units_only_looks() {
    let key = Key::new();
    assert_eq!(key.inc(0), RateLimitDecision::Allowed);
    assert_eq!((key.used(), key.rl.local().keys()), (0, 0), "an empty key became known");
    assert!(key.inc(10).is_allowed());
    assert_eq!(key.inc(0), RateLimitDecision::Allowed);
    assert_eq!(key.used(), 10);
}

#[test]
fn a_changed_rate_applies_at_once_to_the_history_as_it_stands() {
    let key = Key::new();
    assert!(key.inc_at(1.0, 10).is_allowed());
    assert!(!key.inc_at(1.0, 1).is_allowed());
    assert!(key.inc_at(2.0, 10).is_allowed(), "raised to 20");
    assert!(!key.inc_at(2.0, 1).is_allowed());
    let lowered = key.inc_at(0.5, 1);
    assert_eq!(lowered.retry_after(), Some(Duration::from_millis(10_010)), "lowered to 5, with 20 used");
    assert_eq!(key.used(), 20);
    key.pass(10_010);
    assert!(key.inc_at(0.5, 5).is_allowed());
    assert!(!key.inc_at(0.5, 1).is_allowed());
}

#[test]
fn a_rate_that_admits_less_than_one_in_its_window_refuses_without_a_hint() {
    let key = Key::new();
    for per_second in [0.099, 1e-9, f64::MIN_POSITIVE] {
        let refused = key.inc_at(per_second, 1);
        assert!(matches!(refused, RateLimitDecision::Rejected { retry_after_ms: u64::MAX, .. }), "{refused:?}");
        assert_eq!(refused.retry_after(), None);
    }
    assert_eq!((key.used(), key.rl.local().keys()), (0, 0));
    assert!(key.inc_at(0.1, 1).is_allowed(), "the least rate that admits one in 10 s");
}

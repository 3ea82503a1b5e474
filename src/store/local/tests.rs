//! What the store adds to the engine: many keys, many threads, the bound on keys, and the production clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::keyspace::cleanup::{self, Sweep as _};
use crate::limiter::SuppressionSnapshot;
use crate::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store as _, Strategy};
use crate::{
    ConfigError, HardLimitFactor, ManualClock, Quota, RateLimit, RateLimiter, RateLimiterOptions, WindowSizeSeconds,
};

/// A limiter with a manual clock and no cleanup loop. Its window is 1 s, so a bare rate of n admits n.
fn limiter(clock: &ManualClock, max_keys: usize) -> RateLimiter {
    RateLimiter::new(RateLimiterOptions {
        window_size_seconds: WindowSizeSeconds::try_from(1).unwrap(),
        max_keys,
        clock: Some(Arc::new(clock.clone())),
        ..RateLimiterOptions::default()
    })
    .unwrap()
}

fn rate(per_second: f64) -> RateLimit {
    RateLimit::try_from(per_second).unwrap()
}

/// The check and the charge are one step, also for the first request of a key.
#[test]
fn threads_admit_exactly_the_capacity() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1_000);
    for threads in [2, 4, 8, 16] {
        for round in 0..200_u64 {
            clock.advance(Duration::from_secs(3));
            let (admitted, start) = (AtomicU64::new(0), Barrier::new(threads));
            let capacity = 1 + round % 97;
            thread::scope(|scope| {
                for thread in 0..threads as u64 {
                    let (rl, admitted, start) = (&rl, &admitted, &start);
                    scope.spawn(move || {
                        start.wait();
                        for call in 0..120 {
                            let cost = 1 + (thread + call) % 2;
                            if rl.local().absolute().inc("hot", &rate(capacity as f64), cost).is_allowed() {
                                admitted.fetch_add(cost, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), capacity, "{threads} threads, round {round}");
            assert_eq!(rl.local().absolute().get("hot"), capacity);
        }
    }
    assert_eq!(rl.local().keys(), 1);
}

/// Threads charge, correct and read at once. The total that remains equals the admitted units.
#[test]
fn threads_that_set_and_delete_leave_no_trace() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1_000);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let rl = &rl;
            scope.spawn(move || {
                let limits = rl.local().absolute();
                for call in 0..5_000_u64 {
                    let key = [(call % 3) as u8];
                    match (call + thread) % 7 {
                        0 => assert!(limits.delete(key) <= Some(9)),
                        1 => assert!(
                            limits.set_if(key, &rate(9.0), crate::RateLimitComparator::Lt(4), 4).current_total <= 9
                        ),
                        2 => assert!(limits.is_allowed(key, &rate(900.0)).is_allowed()),
                        _ => assert!(limits.inc(key, &rate(9.0), 1).retry_after() != Some(Duration::ZERO)),
                    }
                    assert!(limits.get(key) <= 9);
                }
            });
        }
    });
    for key in 0..3_u8 {
        rl.local().absolute().delete([key]);
    }
    assert_eq!(rl.local().keys(), 0, "the count of keys is balanced");
}

/// Precise stamps from outside judge the production clock. It is a violation if more than the capacity is admitted by
/// calls that start at or after s and return before s + window. A refusal is a violation if fewer than the capacity
/// were admitted in the window and the bucket before it.
#[test]
fn the_production_clock_admits_no_window_too_much_and_refuses_none_too_little() {
    let rl = RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).build().unwrap();
    let (capacity, window, run) = (500_usize, Duration::from_secs(1), Duration::from_millis(3_600));
    let origin = Instant::now();
    let worker = || {
        let (mut admitted, mut refused, mut calls) = (Vec::new(), Vec::new(), 0_u64);
        while origin.elapsed() < run {
            let begun = origin.elapsed();
            let is_allowed = rl.local().absolute().inc("k", &rate(500.0), 1).is_allowed();
            calls += 1;
            if is_allowed {
                admitted.push((begun, origin.elapsed()));
            } else if calls.is_multiple_of(256) {
                refused.push((begun, origin.elapsed()));
            }
        }
        (admitted, refused)
    };
    let (mut admitted, mut refused) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let (some, others) = worker.join().unwrap();
            admitted.extend(some);
            refused.extend(others);
        }
    });
    admitted.sort_unstable();
    for (at, &(start, _)) in admitted.iter().enumerate() {
        let within = admitted[at..].iter().filter(|&&(_, end)| end < start + window).count();
        assert!(within <= capacity, "{within} within a window from {start:?}");
    }
    let held = Duration::from_millis(1_012);
    for &(begun, end) in refused.iter().step_by(refused.len().div_ceil(2_000).max(1)) {
        let since = begun.saturating_sub(held);
        let within = admitted.iter().filter(|&&(sent, answered)| sent <= end && answered >= since).count();
        assert!(within >= capacity, "refused at {begun:?} with {within} units in use");
    }
    assert!(admitted.len() > capacity && !refused.is_empty(), "{} admitted", admitted.len());
}

/// With the production clock, the same request is admitted after the stated wait.
#[test]
fn the_production_clock_admits_after_the_stated_wait() {
    let rl = RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).build().unwrap();
    let mut judged = 0;
    for round in 0..64_u64 {
        let (key, sent) = (round.to_le_bytes(), Instant::now());
        assert!(rl.local().absolute().inc(key, &rate(3.0), 3).is_allowed());
        // Each round starts at another phase of the clock's tick.
        thread::sleep(Duration::from_micros(judged * 1_700));
        let refused = rl.local().absolute().inc(key, &rate(3.0), 2);
        if sent.elapsed() >= Duration::from_secs(1) {
            // On a busy machine, the window may be over.
            continue;
        }
        let wait = refused.retry_after().expect("3 of 3 units are in use");
        assert!(wait <= Duration::from_millis(1_040), "{wait:?}");
        thread::sleep(wait);
        assert!(rl.local().absolute().inc(key, &rate(3.0), 2).is_allowed(), "round {round}");
        judged += 1;
        if judged == 8 {
            return;
        }
    }
    panic!("the machine is too busy: {judged} rounds were judged");
}

/// While one thread makes a key known, another thread finds the table full. It must not serve the same key from the
/// overflow.
#[test]
fn a_key_is_never_served_from_two_places() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1);
    let (start, end, admitted, wrong) = (Barrier::new(2), Barrier::new(2), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for first in [true, false] {
            let (rl, start, end, admitted, wrong, clock) = (&rl, &start, &end, &admitted, &wrong, &clock);
            scope.spawn(move || {
                for _ in 0..30_000 {
                    start.wait();
                    if rl.local().absolute().inc("k", &rate(6.0), 6).is_allowed() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    end.wait();
                    if first {
                        wrong.fetch_add(u64::from(admitted.swap(0, Ordering::Relaxed) != 1), Ordering::Relaxed);
                        rl.local().absolute().clear();
                        clock.advance(Duration::from_millis(10));
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0, "each round admits the key once");
}

/// With the suppressed strategy and threads, the hard cap is exact, and requests are still admitted.
#[test]
fn threads_share_a_suppressed_key() {
    let limiter = RateLimiter::builder()
        .window_size_seconds(WindowSizeSeconds::try_from(1).unwrap())
        .hard_limit_factor(HardLimitFactor::try_from(2.0).unwrap())
        .build()
        .unwrap();
    let (origin, window, run) = (Instant::now(), Duration::from_secs(1), Duration::from_millis(2_200));
    let mut admitted: Vec<(Duration, Duration)> = thread::scope(|scope| {
        let worker = || {
            let mut admitted = Vec::new();
            while origin.elapsed() < run {
                let begun = origin.elapsed();
                if limiter.local().suppressed().inc("k", &rate(1_000.0), 1).is_allowed() {
                    admitted.push((begun, origin.elapsed()));
                }
            }
            admitted
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no thread panics")).collect()
    });
    admitted.sort_unstable();
    for (at, &(start, _)) in admitted.iter().enumerate() {
        let within = admitted[at..].iter().filter(|&&(_, end)| end < start + window).count();
        assert!(within <= 2_000, "{within} within a window from {start:?}, and the hard cap is 2000");
    }
    assert!(admitted.len() > 1_000, "{} admitted: only the first window was served", admitted.len());
}

#[test]
fn a_snapshot_adds_up_to_the_requested_units() {
    let clock = ManualClock::new();
    let options = RateLimiter::builder().hard_limit_factor(HardLimitFactor::try_from(1.5).unwrap());
    let rl = options.clock(clock.clone()).max_keys(10).build().unwrap();
    let (calls, rate) = (rl.local().suppressed(), rate(10.0));
    assert_eq!(calls.snapshot("k", &rate), SuppressionSnapshot::default());
    assert_eq!(rl.local().keys(), 0, "a snapshot adds no key");
    let (mut offered, mut declined) = (0, 0);
    // The requests ask for twice as many units as fit.
    for _ in 0..400 {
        clock.advance(Duration::from_millis(70));
        offered += 3;
        declined += if calls.inc("k", &rate, 3).is_allowed() { 0 } else { 3 };
        let seen = calls.snapshot("k", &rate);
        assert_eq!((seen.observed, seen.declined), (offered, declined));
        assert_eq!(calls.get("k"), seen.observed - seen.declined, "the rest was admitted");
        assert_eq!(seen.factor, calls.get_suppression_factor("k", &rate));
    }
    assert!(
        declined > 0 && calls.snapshot("k", &rate).factor > 0.0,
        "{declined} units were shed, so the test is not vacuous"
    );
    assert!(!calls.inc("k", &rate, 1_000).is_allowed());
    assert_eq!(calls.snapshot("k", &rate).declined, declined, "a cost above the cap is not demand");
    // After one window all units have left, although no request arrived.
    clock.advance(Duration::from_secs(65));
    assert_eq!(calls.snapshot("k", &rate), SuppressionSnapshot::default());
}

#[test]
fn a_refused_key_is_not_remembered() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10);
    for n in 0..1_000_u32 {
        assert!(!rl.local().absolute().inc(n.to_le_bytes(), &rate(5.0), 6).is_allowed());
        assert!(rl.local().absolute().inc(n.to_le_bytes(), &rate(5.0), 0).is_allowed());
        assert!(rl.local().absolute().is_allowed(n.to_le_bytes(), &rate(5.0)).is_allowed());
        assert!(!rl.local().suppressed().inc(n.to_le_bytes(), &rate(5.0), 6).is_allowed());
    }
    assert_eq!(rl.local().keys(), 0);
}

/// A full table keeps its keys to their limits, and a flood of unknown keys gets only the shared budgets.
#[test]
fn a_flood_of_keys_gains_nothing() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 100);
    let limits = rl.local().absolute();
    clock.advance(Duration::from_secs(10));
    for key in 0..100_u32 {
        assert!(limits.inc(key.to_le_bytes(), &rate(5.0), 4).is_allowed());
    }
    let admitted = (100..100_000_u32).filter(|key| limits.inc(key.to_le_bytes(), &rate(5.0), 1).is_allowed()).count();
    assert_eq!(admitted, 5 * 1024, "unknown keys share 1024 budgets");
    assert_eq!(rl.local().keys(), 100);
    for key in 0..100_u32 {
        assert!(limits.inc(key.to_le_bytes(), &rate(5.0), 1).is_allowed(), "an established key keeps what it has");
        assert!(!limits.inc(key.to_le_bytes(), &rate(5.0), 1).is_allowed(), "and no more");
    }
    // Once the keys are idle, unknown keys get budgets of their own.
    clock.advance(Duration::from_millis(1_020));
    let admitted = (500..600_u32).filter(|key| {
        clock.advance(Duration::from_millis(10));
        limits.inc(key.to_le_bytes(), &rate(5.0), 5).is_allowed()
    });
    assert!(admitted.count() >= 98);
}

/// A key that the overflow served has no fresh budget when the table has room for it.
#[test]
fn a_key_from_the_overflow_has_no_fresh_budget() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1);
    let limits = rl.local().absolute();
    clock.advance(Duration::from_secs(10));
    assert!(limits.inc("known", &rate(5.0), 5).is_allowed());
    clock.advance(Duration::from_millis(600));
    assert!(limits.inc("late", &rate(5.0), 3).is_allowed(), "from the overflow");
    clock.advance(Duration::from_millis(600));
    (0..128).for_each(|_| assert!(rl.local().0.main.sweep_step(rl.local().0.now()) <= 1));
    assert_eq!(rl.local().keys(), 0);
    assert!(!limits.inc("late", &rate(5.0), 3).is_allowed(), "3 of 5 may be its own");
    assert!(limits.inc("late", &rate(5.0), 2).is_allowed());
    assert_eq!(limits.get("late"), 5);
    clock.advance(Duration::from_millis(1_020));
    assert!(limits.inc("other", &rate(5.0), 5).is_allowed(), "the overflow forgets it after its window");
}

/// New keys trigger the cleanup. Without the loop, the table stays near the number of keys in use.
#[test]
fn idle_keys_are_reclaimed_by_new_ones() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1_000_000);
    let mut most = 0;
    for n in 0..400_000_u32 {
        if n % 100 == 0 {
            clock.advance(Duration::from_millis(10)); // 10 000 keys a second live for one second
        }
        assert!(rl.local().absolute().inc(n.to_le_bytes(), &rate(1.0), 1).is_allowed());
        most = most.max(rl.local().keys());
    }
    assert!(most < 60_000, "{most} keys retained while 10 000 are in use");
}

/// A step of the cleanup visits at most a few thousand keys, however many there are.
#[test]
fn a_sweep_step_is_short() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1_000_000);
    for n in 0..1_000_000_u32 {
        assert!(rl.local().absolute().inc(n.to_le_bytes(), &rate(1.0), 1).is_allowed());
    }
    assert_eq!(rl.local().keys(), 1_000_000);
    let fullest = rl.local().0.main.fullest_shard();
    assert!(fullest < 1_000, "{fullest} keys in one shard");
}

/// The loop frees memory without new keys and without a runtime, and keeps no store alive.
#[test]
fn the_cleanup_loop_reclaims_and_ends() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10_000);
    for n in 0..5_000_u32 {
        assert!(rl.local().absolute().inc(n.to_le_bytes(), &rate(1.0), 1).is_allowed());
    }
    clock.advance(Duration::from_secs(2));
    rl.run_cleanup_loop();
    rl.run_cleanup_loop();
    let start = Instant::now();
    while rl.local().keys() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} keys are left", rl.local().keys());
        thread::sleep(Duration::from_millis(20));
    }
    let weak = Arc::downgrade(&rl.local().0);
    rl.stop_cleanup_loop();
    rl.stop_cleanup_loop();
    rl.run_cleanup_loop();
    drop(rl);
    while weak.strong_count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the loop keeps the store alive");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The cleanup forgets unused names once their keys are idle, and also the shared budgets of a full table.
#[test]
fn names_that_nobody_uses_are_forgotten_by_the_cleanup() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10);
    let open = |name: &str| {
        let quota: Quota = "10/s".parse().unwrap();
        rl.local().open(&Policy::new(name, [quota], Strategy::Absolute)).unwrap()
    };
    let (names, pass) = (|| rl.local().0.named.all().len(), || (0..16).for_each(|_| rl.local().0.sweep_round()));
    let (used, idle) = (open("used"), open("idle"));
    drop(open("empty"));
    for budget in [&used, &idle] {
        (0..50_u32).for_each(|key| drop(budget.decide(BudgetRequest::new(&key.to_le_bytes(), 1))));
    }
    drop(idle);
    assert_eq!(names(), 3);
    pass();
    assert_eq!((names(), rl.local().keys()), (2, 20), "its keys are in the window");
    clock.advance(Duration::from_secs(2));
    pass();
    pass();
    assert_eq!((names(), rl.local().keys()), (1, 0));
    assert!(
        matches!(used.decide(BudgetRequest::new(b"k", 10)), BudgetResponse::Ready(Ok(decision)) if decision.is_allowed())
    );
}

/// A forked child has no cleanup thread, although its memory states that one runs. New keys start another one.
#[test]
fn a_forked_child_starts_a_cleanup_loop_of_its_own() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10_000);
    rl.run_cleanup_loop();
    cleanup::pretend_to_be_forked();
    assert!(!cleanup::runs_here());
    let start = Instant::now();
    let mut key = 0_u32;
    while !cleanup::runs_here() {
        assert!(start.elapsed() < Duration::from_secs(60), "no new key has started the loop");
        assert!(rl.local().absolute().inc(key.to_le_bytes(), &rate(1.0), 1).is_allowed());
        key = (key + 1) % 9_000;
        clock.advance(Duration::from_secs(u64::from(key == 0) * 2));
    }
}

/// A custom clock that panics ends only the cleanup of its own store.
#[test]
fn a_panicking_clock_stops_only_its_own_cleanup() {
    struct Broken;
    impl crate::time::Clock for Broken {
        fn now_ms(&self) -> u64 {
            panic!("no time")
        }
    }
    let broken = RateLimiter::builder().clock(Broken).build().unwrap();
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10_000);
    assert!(rl.local().absolute().inc("k", &rate(1.0), 1).is_allowed());
    clock.advance(Duration::from_secs(2));
    rl.run_cleanup_loop();
    let start = Instant::now();
    while rl.local().keys() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the loop has ended");
        thread::sleep(Duration::from_millis(20));
    }
    drop(broken);
}

#[test]
fn a_stopped_loop_reclaims_nothing() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 10_000);
    rl.run_cleanup_loop();
    rl.stop_cleanup_loop();
    assert!(rl.local().absolute().inc("k", &rate(1.0), 1).is_allowed());
    clock.advance(Duration::from_secs(2));
    // A running loop would have done two rounds in this time.
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(rl.local().keys(), 1);
}

#[test]
fn windows_and_buckets_are_checked_together() {
    let clock = ManualClock::new();
    let build = |bucket_ms: u64, window_s: u64| {
        RateLimiter::new(RateLimiterOptions {
            window_size_seconds: WindowSizeSeconds::try_from(window_s).unwrap(),
            rate_group_size_ms: crate::RateGroupSizeMs::try_from(bucket_ms).unwrap(),
            clock: Some(Arc::new(clock.clone())),
            ..RateLimiterOptions::default()
        })
        .map(|_| ())
    };
    assert_eq!(build(1_000, 1), Ok(()));
    assert_eq!(build(1_001, 1), Err(ConfigError::BucketExceedsWindow { bucket_ms: 1_001, window_ms: 1_000 }));
    let month = 31 * 86_400;
    let too_long = ConfigError::WindowTooLong { window_ms: month * 1_000, least_bucket_ms: 160 };
    assert_eq!(build(10, month), Err(too_long));
    assert_eq!(build(160, month), Ok(()), "the suggested bucket is valid");
    let lagging = |lag_ms: u64| {
        struct Lagging(u64);
        impl crate::time::Clock for Lagging {
            fn now_ms(&self) -> u64 {
                0
            }
            fn lag_ms(&self) -> u64 {
                self.0
            }
        }
        RateLimiter::builder().clock(Lagging(lag_ms)).build().map(|_| ())
    };
    assert_eq!(lagging(1_000), Ok(()));
    for absurd in [1 << 28, 1 << 36, u64::MAX] {
        assert!(matches!(lagging(absurd), Err(ConfigError::WindowTooLong { .. })));
    }
}

/// One name is one history, whatever quotas apply to it.
#[test]
fn a_name_and_a_key_are_one_history() {
    let clock = ManualClock::new();
    let rl = limiter(&clock, 1_000);
    let open = |name: &str, quotas: &[&str]| {
        let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
        rl.local().open(&Policy::new(name, quotas, Strategy::Absolute)).unwrap()
    };
    let ask = |budget: &Arc<dyn Budget>, cost: u64| match budget.decide(BudgetRequest::new(b"k", cost)) {
        BudgetResponse::Ready(Ok(decision)) => decision,
        other => panic!("{other:?}"),
    };
    let (short, long, other) = (open("a", &["10/s"]), open("a", &["15/min", "100/h"]), open("b", &["10/s"]));
    assert!(ask(&short, 10).is_allowed());
    assert!(ask(&other, 10).is_allowed(), "another name, another history");
    assert!(!ask(&long, 6).is_allowed() && ask(&long, 5).is_allowed());
    clock.advance(Duration::from_millis(1_010));
    let refused = ask(&long, 1);
    assert_eq!((refused.used(), refused.limit(), refused.limit_index()), (15, 15, 0));
    assert!(refused.is_exceeded(0) && !refused.is_exceeded(1));
    let allowed = ask(&short, 4);
    assert_eq!((allowed.used(), allowed.remaining()), (4, 6));
    assert_eq!(ask(&long, 0).used(), 19, "one history");
    short.refund(b"k", 3, &allowed);
    short.refund(b"unknown", 3, &allowed);
    assert_eq!((ask(&short, 0).used(), ask(&long, 0).used()), (1, 16));
    short.refund(b"k", 3, &ask(&long, 100));
    short.refund(b"k", 3, &ask(&long, 0));
    assert_eq!(ask(&long, 0).used(), 16, "a refusal and a cost of 0 have no charge to refund");
    let empty = Policy::new("d", Vec::new(), Strategy::Absolute);
    assert_eq!(rl.local().open(&empty).unwrap_err(), ConfigError::NoQuota);
    let names: Vec<Quota> = (1..=9).map(|n| Quota::new(n, Duration::from_secs(n)).unwrap()).collect();
    let policy = Policy::new("c", names, Strategy::Absolute);
    assert_eq!(rl.local().open(&policy).unwrap_err(), ConfigError::TooManyQuotas { most: 8 });
    let seven = open("e", &["1/1s", "1/2s", "1/3s", "1/4s", "1/5s", "1/6s", "1/7s"]);
    let two = Policy::new("e", ["1/8s", "1/9s"].map(|quota| quota.parse().unwrap()), Strategy::Absolute);
    assert!(rl.local().open(&two).is_err());
    open("e", &["1/10s"]);
    drop(seven);
    assert!(rl.local().open(&two).is_ok(), "a dropped policy takes no room");
}

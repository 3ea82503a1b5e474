//! More clients than a limit may remember: what the known and the unknown get, and what they are told.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy as Kind};
use tower_weir::{Decision, ManualClock, Quota, RateLimit, RateLimitComparator, RateLimiter, RateLimiterOptions};

/// A limiter with a clock of its own and no cleanup loop.
fn limiter(max_keys: usize) -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.set_ms(1_000_000_000);
    let options =
        RateLimiterOptions { clock: Some(Arc::new(clock.clone())), max_keys, ..RateLimiterOptions::default() };
    (clock, RateLimiter::new(options).unwrap())
}

fn open(limiter: &RateLimiter, quotas: &[&str]) -> Arc<dyn Budget> {
    let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    limiter.local().open(&Policy::new("x", quotas, Kind::Absolute)).unwrap()
}

fn ask(budget: &Arc<dyn Budget>, key: u64, cost: u64) -> Decision {
    match budget.decide(BudgetRequest::new(&key.to_le_bytes(), cost)) {
        BudgetResponse::Ready(Ok(decision)) => decision,
        other => panic!("{other:?}"),
    }
}

/// A client that shares a window is admitted after the stated wait, even if it gets its own window meanwhile.
#[test]
fn a_wait_told_at_a_full_table_is_kept_when_there_is_room_again() {
    let (clock, rl) = limiter(1);
    let budget = open(&rl, &["10/60s"]);
    let at = |seconds: u64| clock.set_ms(1_000_000_000 + seconds * 1_000);
    assert!(!ask(&budget, 1, 1).is_overflow());
    at(1);
    let shared = ask(&budget, 2, 9);
    assert!(shared.is_allowed() && shared.is_overflow());
    at(50);
    assert!(ask(&budget, 2, 1).is_allowed());
    at(55);
    let refused = ask(&budget, 2, 1);
    assert!(!refused.is_allowed() && refused.is_overflow());
    let wait = refused.retry_after().unwrap();
    assert!(wait <= Duration::from_millis(6_010), "{wait:?}");
    clock.advance(wait);
    let admitted = ask(&budget, 2, 1);
    assert!(admitted.is_allowed() && !admitted.is_overflow());
    assert_eq!((admitted.used(), rl.local().keys()), (2, 1), "what has expired does not count");
    assert!(!ask(&budget, 2, 9).is_allowed(), "and what has not does");
}

/// A flood is over and its keys are idle: those who come then have budgets of their own.
#[test]
fn nobody_is_locked_out_after_a_flood() {
    let (clock, rl) = limiter(1_000);
    let budget = open(&rl, &["10/60s"]);
    for key in 0..1_000 {
        assert!(ask(&budget, key, 1).is_allowed());
    }
    assert!(ask(&budget, 5_000, 9).is_allowed());
    clock.advance(Duration::from_secs(55));
    assert!(ask(&budget, 5_000, 1).is_allowed());
    for second in 61..200_u64 {
        clock.set_ms(1_000_000_000 + second * 1_000);
        for key in 0..10 {
            assert!(ask(&budget, 10_000 + second * 10 + key, 1).is_allowed(), "at {second} s");
        }
    }
}

/// A daily quota, and five times as many clients in a day as there is room for: they share budgets by few.
#[test]
fn many_clients_a_day_are_served_from_shared_budgets() {
    let (clock, rl) = limiter(1_000);
    let budget = open(&rl, &["100/s", "1000/d"]);
    let (mut own, mut shared) = (0, 0);
    for hour in 0..20_u64 {
        for client in 0..5_000 {
            clock.set_ms(1_000_000_000 + hour * 3_600_000 + client * 100);
            let decision = ask(&budget, client, 1);
            assert!(decision.is_allowed(), "client {client} in hour {hour}");
            assert_eq!(decision.is_overflow(), client >= 1_000);
            *if decision.is_overflow() { &mut shared } else { &mut own } += 1;
        }
    }
    assert_eq!((own, shared), (20_000, 80_000));
}

/// Clients that do not know each other share one in 1024 budgets, and each of these is limited.
#[test]
fn a_flood_of_keys_gains_no_more_than_the_shared_budgets() {
    let (_, rl) = limiter(100);
    let budget = open(&rl, &["5/60s"]);
    for key in 0..100 {
        assert!(ask(&budget, key, 4).is_allowed());
    }
    let admitted = (1_000..60_000).filter(|&key| ask(&budget, key, 1).is_allowed()).count();
    assert_eq!(admitted, 5 * 1_024);
    for key in 0..100 {
        assert!(ask(&budget, key, 1).is_allowed(), "a known key keeps what it has");
        assert!(!ask(&budget, key, 1).is_allowed(), "and no more");
    }
    assert_eq!(rl.local().keys(), 100);
}

/// While new keys flood a full table, honest keys lose nothing, and abusive keys gain nothing.
#[test]
fn a_flood_of_keys_disturbs_no_known_key() {
    const LIMIT: usize = 20;
    const WINDOW_MS: u64 = 2_000;
    let (clock, rl) = limiter(200);
    let budget = open(&rl, &["20/2s"]);
    let (mut stranger, mut admitted) = (1_000_000, vec![Vec::new(); 10]);
    for ms in 0..10_000_u64 {
        clock.set_ms(1_000_000_000 + ms);
        // Each of a hundred honest keys asks 18 times in two seconds, and each of ten abusive ones 200 times.
        for honest in (0..100).filter(|honest| (ms + honest) % 112 == 0) {
            let decision = ask(&budget, honest, 1);
            assert!(decision.is_allowed() && !decision.is_overflow(), "honest key {honest} after {ms} ms");
        }
        if ms % 10 == 0 {
            for (abusive, admitted) in admitted.iter_mut().enumerate() {
                admitted.extend(ask(&budget, 500 + abusive as u64, 1).is_allowed().then_some(ms));
            }
        }
        // The known keys come first, as they do before a flood.
        for _ in 0..if ms < 200 { 0 } else { 20 } {
            ask(&budget, stranger, 1);
            stranger += 1;
        }
        assert!(rl.local().keys() <= 200);
    }
    for admitted in admitted {
        let ends = admitted.windows(LIMIT + 1).map(|times| times[LIMIT] - times[0]);
        assert!(ends.min().unwrap() >= WINDOW_MS, "an abusive key exceeds its limit: {admitted:?}");
        assert!(admitted.len() >= 4 * LIMIT, "an abusive key gets less than its limit: {admitted:?}");
    }
}

/// A refund of a charge to a shared budget takes back that charge, and no more.
#[test]
fn a_refund_makes_room_in_a_shared_budget() {
    let (_, rl) = limiter(1);
    let budget = open(&rl, &["10/60s"]);
    assert!(ask(&budget, 1, 1).is_allowed());
    assert!(ask(&budget, 2, 1).is_overflow());
    let shared = ask(&budget, 2, 8);
    assert!(shared.is_allowed() && shared.is_overflow());
    assert!(!ask(&budget, 2, 2).is_allowed());
    budget.refund(&2_u64.to_le_bytes(), u64::MAX, &shared);
    let again = ask(&budget, 2, 9);
    assert_eq!((again.is_allowed(), again.is_overflow(), again.used()), (true, true, 10));
    assert!(!ask(&budget, 2, 1).is_allowed(), "one unit was not refunded");
}

/// Corrections obey the bound, and a key that the store does not know has used nothing.
#[test]
fn corrections_obey_the_bound() {
    let (clock, rl) = limiter(10);
    let (limits, rate) = (rl.local().absolute(), RateLimit::try_from(1.0).unwrap());
    let set = |key: u64, to| limits.set_if(key.to_le_bytes(), &rate, RateLimitComparator::Always, to);
    assert!((0..10).all(|key| set(key, 3).matched));
    let refused = set(10, 3);
    assert_eq!((refused.matched, refused.previous_total, refused.current_total), (false, 0, 0));
    assert!((11..100_000).all(|key| !set(key, 3).matched));
    assert_eq!(rl.local().keys(), 10);
    assert!(set(5, 60).matched && limits.get(5_u64.to_le_bytes()) == 60, "known keys are corrected");
    // Strangers use a shared budget: nobody else is said to have used it.
    for key in 0..50_000_u64 {
        limits.inc((1_000 + key).to_le_bytes(), &rate, 6);
    }
    assert_eq!(limits.get(99_999_u64.to_le_bytes()), 0);
    assert!(!limits.is_allowed(99_999_u64.to_le_bytes(), &rate).is_allowed(), "though it would be refused");
    // As soon as there is room, counts are restored, and to nothing too.
    assert_eq!(limits.delete(0_u64.to_le_bytes()), Some(3));
    assert!(set(99_999, 0).matched);
    assert!(limits.inc(99_999_u64.to_le_bytes(), &rate, 60).is_allowed(), "what others did does not count any more");
    clock.advance(Duration::from_secs(70));
    let restored = limits.set_if(7_777_u64.to_le_bytes(), &rate, RateLimitComparator::Eq(0), 5);
    assert_eq!((restored.matched, restored.current_total), (true, 5));
}

/// A step of one client.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask {
        key: u64,
        cost: u64,
        advance: u64,
    },
    /// Waits as the last refusal said, and asks again.
    Wait,
    Refund {
        which: usize,
    },
    Idle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0_u64..6, 1_u64..4, prop_oneof![2 => Just(0), 1 => 0_u64..60])
            .prop_map(|(key, cost, advance)| Step::Ask { key, cost, advance }),
        2 => Just(Step::Wait),
        1 => any::<usize>().prop_map(|which| Step::Refund { which }),
        1 => Just(Step::Idle),
    ];
    prop::collection::vec(step, 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Keys move into the shared windows and out again: by a naive log of each key none is ever over a limit, and who
    /// waits as told is admitted if nothing else comes.
    #[test]
    fn keys_that_share_and_do_not_equal_a_naive_log(
        steps in steps(),
        max_keys in 1_usize..5,
        quotas in prop_oneof![Just(&[(7, 200)][..]), Just(&[(7, 200), (11, 900)][..])],
    ) {
        let (clock, rl) = limiter(max_keys);
        let texts: Vec<String> = quotas.iter().map(|(count, ms)| format!("{count}/{ms}ms")).collect();
        let budget = open(&rl, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let mut now = 1_000_000_000_u64;
        let mut log: Vec<(u64, u64, u64, Decision)> = Vec::new();
        let mut refused: Option<(u64, u64, Duration)> = None;
        for step in steps {
            let (key, cost, must) = match step {
                Step::Ask { key, cost, advance } => {
                    now += advance;
                    (key, cost, false)
                }
                Step::Wait => {
                    let Some((key, cost, wait)) = refused.take() else { continue };
                    now += wait.as_millis() as u64;
                    (key, cost, true)
                }
                Step::Refund { which } => {
                    if !log.is_empty() {
                        let (key, _, cost, decision) = log.swap_remove(which % log.len());
                        budget.refund(&key.to_le_bytes(), cost, &decision);
                        // Another key may fit earlier now, but none later.
                    }
                    continue;
                }
                Step::Idle => {
                    now += 950;
                    continue;
                }
            };
            clock.set_ms(now);
            let decision = ask(&budget, key, cost);
            prop_assert!(rl.local().keys() <= max_keys);
            if decision.is_allowed() {
                log.push((key, now, cost, decision));
                refused = None;
            } else {
                prop_assert!(!must, "key {} was told to come now", key);
                refused = Some((key, cost, decision.retry_after().unwrap()));
            }
            for &(count, ms) in quotas {
                let used: u64 = log.iter().filter(|(of, at, ..)| *of == key && at + ms > now).map(|entry| entry.2).sum();
                prop_assert!(used <= count, "{} of {} in {} ms", used, count, ms);
            }
        }
    }
}

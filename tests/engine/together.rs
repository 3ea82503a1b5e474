//! Decisions on several limits of a local store together, beside a naive log.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use tower_weir::store::{
    Budget, BudgetRequest, BudgetResponse, Decisions, DecisionsResponse, Part, Policy, Store, Strategy, decide_together,
};
use tower_weir::{Decision, HardLimitFactor, ManualClock, Quota, RateGroupSizeMs, RateLimiter};

const BUCKET_MS: u64 = 10;

/// The quotas of each limit, as units and ticks.
const LIMITS: [&[(u64, u64)]; 4] = [&[(3, 10)], &[(5, 20), (8, 60)], &[(2, 5)], &[(10, 40)]];

fn quota(&(count, ticks): &(u64, u64)) -> Quota {
    Quota::new(count, Duration::from_millis(ticks * BUCKET_MS)).unwrap()
}

fn limiter(clock: &ManualClock) -> RateLimiter {
    let bucket = RateGroupSizeMs::try_from(BUCKET_MS).unwrap();
    RateLimiter::builder().clock(clock.clone()).rate_group_size_ms(bucket).build().unwrap()
}

fn open(rl: &RateLimiter, name: &str, quotas: &[Quota]) -> Arc<dyn Budget> {
    rl.local().open(&Policy::new(name, quotas, Strategy::Absolute)).unwrap()
}

fn decide(parts: &[Part<'_>]) -> Decisions {
    match decide_together(parts) {
        DecisionsResponse::Ready(decisions) => decisions,
        DecisionsResponse::Pending(_) => panic!("a local store does no I/O"),
    }
}

fn peek(budget: &Arc<dyn Budget>, key: &[u8], cost: u64) -> Decision {
    match budget.peek(BudgetRequest::new(key, cost)) {
        BudgetResponse::Ready(decision) => decision.unwrap(),
        BudgetResponse::Pending(_) => panic!("a local store does no I/O"),
    }
}

/// The units of each limit and key, with their ticks.
#[derive(Default)]
struct Log(HashMap<(usize, u8), Vec<(u64, u64)>>);

impl Log {
    /// The units that are held at a tick: a unit counts for its window and the rest of its bucket.
    fn used(&self, limit: usize, key: u8, at: u64, window: u64) -> u64 {
        let units = self.0.get(&(limit, key)).map_or(&[][..], Vec::as_slice);
        units.iter().filter(|(tick, _)| at - tick <= window).map(|(_, units)| units).sum()
    }

    fn fits(&self, limit: usize, key: u8, cost: u64, at: u64) -> bool {
        LIMITS[limit].iter().all(|(count, window)| self.used(limit, key, at, *window) + cost <= *count)
    }

    /// The ticks until a cost fits, or `None` if it never does.
    fn wait(&self, limit: usize, key: u8, cost: u64, now: u64) -> Option<u64> {
        (0..=61).find(|wait| self.fits(limit, key, cost, now + wait))
    }
}

#[derive(Clone, Debug)]
struct Ask {
    pause_ticks: u64,
    /// For each limit: the key, the cost, and whether it is enforced; `None` if the limit does not apply.
    parts: [Option<(u8, u64, bool)>; 4],
    order: [usize; 4],
}

fn ask() -> impl Generator<Value = Ask> {
    let part = prop::option::weighted(
        0.7,
        (0_u8..2, prop_oneof![6 => 1_u64..3, 1 => Just(0), 1 => Just(4)], prop::bool::weighted(0.8)),
    );
    let order = Just([0, 1, 2, 3]).prop_shuffle();
    let pause = prop_oneof![3 => Just(0), 3 => 1_u64..6, 1 => 6_u64..70];
    (pause, prop::array::uniform4(part), order).prop_map(|(pause_ticks, parts, order)| Ask {
        pause_ticks,
        parts,
        order,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A request is charged to all limits or to none, its wait is the longest and exact, and the order of the limits
    /// does not matter.
    #[test]
    fn the_decisions_are_those_of_a_naive_log(asks in prop::collection::vec(ask(), 1..80)) {
        let clock = ManualClock::new();
        let budgets: Vec<_> = {
            let rl = limiter(&clock);
            (0..4).map(|at| open(&rl, &format!("limit-{at}"), &LIMITS[at].iter().map(quota).collect::<Vec<_>>())).collect()
        };
        let (mut log, mut now) = (Log::default(), 0);
        for Ask { pause_ticks, parts, order } in asks {
            clock.advance(Duration::from_millis(pause_ticks * BUCKET_MS));
            now += pause_ticks;
            let asked: Vec<_> = order.iter().filter_map(|at| parts[*at].map(|part| (*at, part))).collect();
            let keys: Vec<[u8; 1]> = asked.iter().map(|(_, (key, ..))| [*key]).collect();
            let parts: Vec<Part<'_>> = asked.iter().zip(&keys).map(|((at, (_, cost, is_enforced)), key)| {
                Part::new(&budgets[*at], BudgetRequest::new(key, *cost)).enforced(*is_enforced)
            }).collect();
            let decisions = decide(&parts);
            let fits = asked.iter().all(|(at, (key, cost, is_enforced))| !is_enforced || log.fits(*at, *key, *cost, now));
            prop_assert_eq!(decisions.is_allowed(), fits);
            for (index, (at, (key, cost, _))) in asked.iter().enumerate() {
                let decision = decisions.get(index).unwrap();
                let has_room = log.fits(*at, *key, *cost, now);
                prop_assert_eq!(decision.is_allowed(), has_room);
                if !has_room {
                    let wait = log.wait(*at, *key, *cost, now).map(|ticks| Duration::from_millis(ticks * BUCKET_MS));
                    prop_assert_eq!(decision.retry_after(), wait);
                }
                if fits && has_room && *cost > 0 {
                    log.0.entry((*at, *key)).or_default().push((now, *cost));
                }
                let (count, window) = LIMITS[*at][decision.limit_index()];
                let used = log.used(*at, *key, now, window);
                prop_assert_eq!((decision.used(), decision.limit()), (used, count));
            }
            // What the request did not ask for, or was refused, is as before.
            for (at, budget) in budgets.iter().enumerate() {
                for key in 0..2 {
                    let seen = peek(budget, &[key], 0);
                    let window = LIMITS[at][seen.limit_index()].1;
                    prop_assert_eq!(seen.used(), log.used(at, key, now, window));
                }
            }
        }
    }
}

/// Runs threads that could wait for each other; a deadlock is a failure and not a stuck run.
fn ends(run: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let running = thread::spawn(move || {
        run();
        ended.send(()).unwrap();
    });
    match end.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the threads wait for each other"),
        _ => running.join().unwrap(),
    }
}

/// A request that another limit refuses must not use up units, not even for a moment.
#[test]
fn requests_that_another_limit_refuses_take_no_room_from_others() {
    let rl = RateLimiter::builder().build().unwrap();
    let hour = |count| Quota::per_hour(count).unwrap();
    for _ in 0..50 {
        let (shared, full) = (open(&rl, "shared", &[hour(2_000)]), open(&rl, "full", &[hour(1)]));
        let key = fastrand::u64(..).to_be_bytes();
        let alone = |budget| decide(&[Part::new(budget, BudgetRequest::new(&key, 1))]).is_allowed();
        assert!(alone(&full));
        thread::scope(|scope| {
            for order in [false, true] {
                let (shared, full, key) = (&shared, &full, &key);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let mut parts = [shared, full].map(|budget| Part::new(budget, BudgetRequest::new(key, 2_000)));
                        parts[1].ask.cost = 1;
                        if order {
                            parts.reverse();
                        }
                        assert!(!decide(&parts).is_allowed());
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| (0..1_000).for_each(|_| assert!(alone(&shared), "refused although there is room")));
            }
        });
        assert!(!alone(&shared));
    }
}

/// Threads that ask for the same limits in different orders do not wait for each other for ever, and fill both exactly.
#[test]
fn threads_with_opposite_orders_fill_all_limits() {
    ends(opposite_orders_fill_all_limits);
}

fn opposite_orders_fill_all_limits() {
    const EACH: u64 = 20_000;
    let rl = RateLimiter::builder().max_keys(64).build().unwrap();
    let limits: Vec<_> = ["a", "b", "c"].map(|name| open(&rl, name, &[Quota::per_hour(4 * EACH).unwrap()])).into();
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for turn in 0..4 {
            let (limits, admitted) = (&limits, &admitted);
            scope.spawn(move || {
                for n in 0..EACH {
                    // New keys of a full table meet the shared windows, which have locks of their own.
                    let stranger = (turn as u64 * EACH + n).to_be_bytes();
                    let mut parts: Vec<Part<'_>> =
                        limits.iter().map(|budget| Part::new(budget, BudgetRequest::new(b"hot", 1))).collect();
                    parts[1].ask = BudgetRequest::new(&stranger, 1);
                    parts.rotate_left(turn % 3);
                    if turn == 3 {
                        parts.reverse();
                    }
                    admitted.fetch_add(u64::from(decide(&parts).is_allowed()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 4 * EACH);
    assert_eq!(peek(&limits[0], b"hot", 0).used(), 4 * EACH);
    assert!(!peek(&limits[2], b"hot", 1).is_allowed());
}

/// The demand for a limit is what the other limits admit: a client above its own limit does not thin the service.
#[test]
fn a_suppressed_limit_sees_only_what_the_others_admit() {
    let clock = ManualClock::new();
    let rl = limiter(&clock);
    let service = Policy::new(
        "service",
        [Quota::per_second(100).unwrap()],
        Strategy::Suppressed(HardLimitFactor::try_from(1.5).unwrap()),
    );
    // Opened first, so the order of opening does not decide.
    let service = rl.local().open(&service).unwrap();
    let client = open(&rl, "client", &[Quota::per_second(10).unwrap()]);
    let mut admitted = 0;
    for ms in 0..4_000_u64 {
        clock.advance(Duration::from_millis(1));
        let ask = |key: &[u8]| {
            let parts =
                [Part::new(&service, BudgetRequest::new(b"", 1)), Part::new(&client, BudgetRequest::new(key, 1))];
            decide(&parts).is_allowed()
        };
        for _ in 0..10 {
            ask(b"flood");
        }
        // Twelve honest clients ask for 111 units in a second together, which is a little more than the limit.
        if ms % 9 == 0 {
            admitted += u32::from(ask(&[(ms / 9 % 12) as u8]));
        }
    }
    assert!(admitted > 320, "{admitted} of 400, because the flood of another client counts as demand");
}

/// A store that is not known to the crate is charged and refunded.
#[test]
fn budgets_of_other_stores_are_charged_and_refunded() {
    #[derive(Debug)]
    struct Wrapped(Arc<dyn Budget>);
    impl Budget for Wrapped {
        fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
            self.0.decide(ask)
        }
        fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
            self.0.refund(key, cost, decision);
        }
        fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
            self.0.peek(ask)
        }
    }
    let clock = ManualClock::new();
    let rl = limiter(&clock);
    let minute = |count| [Quota::per_minute(count).unwrap()];
    let foreign: Arc<dyn Budget> = Arc::new(Wrapped(open(&rl, "foreign", &minute(5))));
    let local = open(&rl, "local", &minute(2));
    let ask = || {
        let parts = [&foreign, &local].map(|budget| Part::new(budget, BudgetRequest::new(b"k", 1)));
        decide(&parts)
    };
    assert!(ask().is_allowed() && ask().is_allowed());
    let refused = ask();
    assert!(!refused.is_allowed() && !refused.is_unavailable());
    assert_eq!([0, 1].map(|at| refused.get(at).unwrap().used()), [2, 2]);
    assert_eq!((peek(&foreign, b"k", 0).used(), peek(&local, b"k", 0).used()), (2, 2));
}

#[test]
fn too_many_limits_are_refused() {
    let rl = RateLimiter::builder().build().unwrap();
    let budget = open(&rl, "a", &[Quota::per_hour(100).unwrap()]);
    let parts = [Part::new(&budget, BudgetRequest::new(b"k", 1)); 9];
    assert!(decide(&parts).is_unavailable());
    // One limit twice is charged twice.
    assert!(decide(&parts[..2]).is_allowed());
    assert_eq!(peek(&budget, b"k", 0).used(), 2);
}

//! Limits in true time: the clock that production uses on a busy machine, and a clock that stands still now and then.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::time::Clock;
use tower_weir::{Decision, Quota, RateLimiter};

fn open(limiter: &RateLimiter, quota: &str) -> Arc<dyn Budget> {
    let quota: Quota = quota.parse().unwrap();
    limiter.local().open(&Policy::new("x", [quota], Strategy::Absolute)).unwrap()
}

fn ask(budget: &Arc<dyn Budget>, key: u64) -> Decision {
    match budget.decide(BudgetRequest::new(&key.to_le_bytes(), 1)) {
        BudgetResponse::Ready(Ok(decision)) => decision,
        other => panic!("{other:?}"),
    }
}

/// It is also run under valgrind, which hides the kernel's fast clock from the program.
#[test]
fn the_first_decision_reads_the_clock() {
    let limiter = RateLimiter::builder().build().unwrap();
    let budget = open(&limiter, "1/h");
    assert!(ask(&budget, 1).is_allowed());
    let wait = ask(&budget, 1).retry_after().unwrap();
    assert!(wait <= Duration::from_millis(3_600_010), "{wait:?}");
}

const WINDOW: Duration = Duration::from_millis(400);
const RUN: Duration = Duration::from_secs(12);
const WORKERS: u64 = 4;
const KEYS_PER_WORKER: u64 = 270_000;

/// A key that was admitted: when at the earliest, and when it is asked for again.
struct Admitted {
    key: u64,
    before: Instant,
    early: Instant,
    told: Instant,
}

/// What a worker has seen.
#[derive(Default)]
struct Seen {
    keys: u64,
    admitted_early: u64,
    too_early: Vec<Duration>,
    waited_in_vain: u64,
}

/// Admits each key, asks for it again about when its window ends, and once more when it was told to.
fn work(worker: u64, budget: &Arc<dyn Budget>) -> Seen {
    let (origin, mut seen) = (Instant::now(), Seen::default());
    let (mut early, mut told): (VecDeque<Admitted>, VecDeque<Admitted>) = Default::default();
    loop {
        let part = origin.elapsed().as_secs_f64() / RUN.as_secs_f64();
        let due = ((part * KEYS_PER_WORKER as f64) as u64).min(KEYS_PER_WORKER);
        while seen.keys < due {
            let key = worker * KEYS_PER_WORKER + seen.keys;
            let before = Instant::now();
            let decision = ask(budget, key);
            assert!(decision.is_allowed(), "a new key");
            let told = Instant::now() + decision.retry_after().unwrap();
            // From 15 ms before the end of the window to its end, by turns.
            let lead = Duration::from_micros(seen.keys / 50 * 997 % 15_000);
            early.push_back(Admitted { key, before, early: before + WINDOW - lead, told });
            seen.keys += 1;
        }
        let mut judge = |key: u64, before: Instant| {
            let is_allowed = ask(budget, key).is_allowed();
            let apart = before.elapsed();
            if is_allowed && apart < WINDOW {
                seen.too_early.push(apart);
            }
            is_allowed
        };
        while early.front().is_some_and(|admitted| admitted.early <= Instant::now())
            && let Some(admitted) = early.pop_front()
        {
            match judge(admitted.key, admitted.before) {
                true => seen.admitted_early += 1,
                false => told.push_back(admitted),
            }
        }
        while told.front().is_some_and(|admitted| admitted.told <= Instant::now())
            && let Some(admitted) = told.pop_front()
        {
            if !judge(admitted.key, admitted.before) {
                seen.waited_in_vain += 1;
            }
        }
        if seen.keys == KEYS_PER_WORKER && early.is_empty() && told.is_empty() {
            return seen;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// One unit in any 400 ms, a million keys, and more busy threads than cores. A key is admitted too early if both its
/// admissions lie within less than the window, from before the first call to after the second.
///
/// And the twin: who waits as told is admitted, so each key is admitted twice.
#[test]
fn a_million_keys_on_a_busy_machine_are_never_admitted_too_early() {
    let limiter = RateLimiter::builder().rate_group_size_ms(4.try_into().unwrap()).max_keys(2_000_000).build().unwrap();
    let budget = open(&limiter, "1/400ms");
    let is_over = AtomicBool::new(false);
    let spinners = 2 * thread::available_parallelism().map_or(2, usize::from);
    let seen: Vec<Seen> = thread::scope(|scope| {
        for _ in 0..spinners {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let budget = &budget;
                scope.spawn(move || work(worker, budget))
            })
            .collect();
        let seen = workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<_, _>>();
        is_over.store(true, Ordering::Relaxed);
        seen.expect("no worker panics")
    });
    let keys: u64 = seen.iter().map(|seen| seen.keys).sum();
    let too_early: Vec<_> = seen.iter().flat_map(|seen| &seen.too_early).collect();
    assert!(keys >= 1_000_000, "{keys}");
    assert!(too_early.is_empty(), "{} of {keys} within less than the window: {too_early:?}", too_early.len());
    assert_eq!(seen.iter().map(|seen| seen.waited_in_vain).sum::<u64>(), 0, "who waits as told is admitted");
    // An early call is admitted only if its thread was late; most keys are refused first, and then admitted.
    let early: u64 = seen.iter().map(|seen| seen.admitted_early).sum();
    println!("{keys} keys admitted twice, {early} of them before they were told to");
}

/// True time, and a clock that shows it but for the first 30 ms of every 170, in which it stands still.
#[derive(Clone)]
struct Stalling {
    truth: Arc<AtomicU64>,
    lag_ms: u64,
}

impl Clock for Stalling {
    fn now_ms(&self) -> u64 {
        let truth = self.truth.load(Ordering::SeqCst);
        if truth % 170 < 30 { truth / 170 * 170 } else { truth }
    }

    fn lag_ms(&self) -> u64 {
        self.lag_ms
    }
}

/// Asks at random for 60 s of true time; returns how often more than 5 were admitted in 200 ms of it, how many were
/// admitted in all, and how often a wait as told was not enough.
fn stalls(lag_ms: u64) -> (u32, usize, u32) {
    let truth = Arc::new(AtomicU64::new(1_000_000));
    let clock = Stalling { truth: Arc::clone(&truth), lag_ms };
    let limiter = RateLimiter::builder().clock(clock).build().unwrap();
    let budget = open(&limiter, "5/200ms");
    let (mut random, mut log, mut exceeded, mut refused_again) = (fastrand::Rng::with_seed(7), Vec::new(), 0, 0);
    while truth.load(Ordering::SeqCst) < 1_060_000 {
        let mut decision = ask(&budget, 1);
        if !decision.is_allowed() && random.u32(..3) == 0 {
            let wait = decision.retry_after().unwrap();
            truth.fetch_add(wait.as_millis() as u64, Ordering::SeqCst);
            decision = ask(&budget, 1);
            refused_again += u32::from(!decision.is_allowed());
        }
        let now = truth.load(Ordering::SeqCst);
        if decision.is_allowed() {
            log.push(now);
            exceeded += u32::from(log.iter().rev().take_while(|&&at| at + 200 > now).count() > 5);
        }
        truth.fetch_add(random.u64(..12), Ordering::SeqCst);
    }
    (exceeded, log.len(), refused_again)
}

/// A clock that states its lag admits nothing too early, keeps its promises, and serves nearly what the limit admits.
///
/// The twin shows that the judge sees a stall: with a lag that the clock does not state, the limit is exceeded.
#[test]
fn a_clock_that_stands_still_is_safe_if_it_states_its_lag() {
    let (exceeded, admitted, refused_again) = stalls(30);
    assert_eq!((exceeded, refused_again), (0, 0));
    // 5 in each 200 ms and the hold of up to 40 ms would be 1250.
    assert!(admitted > 1_000, "{admitted} of 1500");
    let (exceeded, ..) = stalls(0);
    assert!(exceeded > 0, "a lag that is not stated exceeds the limit");
}

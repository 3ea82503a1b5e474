//! Calls that wait for units of a local store, beside a naive queue and a naive log.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use tower_weir::time::Clock;
use tower_weir::{
    ConfigError, ManualClock, RateLimit, RateLimitDecision, RateLimiter, RateLimiterBuilder, StoreError,
    StoreErrorKind, WindowSizeSeconds,
};

const TICK_MS: u64 = 10;
/// The window, in ticks of one bucket each.
const WINDOW: u64 = 100;
/// The units in a window.
const CAPACITY: u64 = 6;

fn builder(clock: impl Clock) -> RateLimiterBuilder {
    RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).clock(clock)
}

fn rate(units: u64) -> RateLimit {
    RateLimit::try_from(units as f64).unwrap()
}

type Outcome = Result<RateLimitDecision, StoreError>;

/// Set when a task is woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A call that is polled only if it was woken, as by a runtime. So a lost wake-up shows as a call that never ends.
struct Task {
    call: Pin<Box<dyn Future<Output = Outcome>>>,
    flag: Arc<Flag>,
}

impl Task {
    fn new(rl: &RateLimiter, key: &'static str, units: u64, rate: RateLimit, max_wait: Duration) -> Self {
        let rl = rl.clone();
        let call = async move { rl.local().absolute().until_allowed(key, &rate, units, max_wait).await };
        Self { call: Box::pin(call), flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    /// Polls the call if it was woken.
    fn run(&mut self) -> Option<Outcome> {
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        match self.call.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&self.flag)))) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}

/// Every unit that was charged, with its tick.
#[derive(Clone, Default)]
struct Log(Vec<(u64, u64)>);

impl Log {
    fn used(&self, at: u64) -> u64 {
        self.0.iter().filter(|(tick, _)| at.saturating_sub(*tick) <= WINDOW).map(|(_, units)| units).sum()
    }

    fn fits(&self, units: u64, at: u64) -> bool {
        self.used(at) + units <= CAPACITY
    }

    /// The tick at which the last call of a queue is admitted, if all calls stay.
    fn admits_last(mut self, queue: impl Iterator<Item = u64>, mut at: u64) -> u64 {
        for units in queue {
            at = (at..).find(|at| self.fits(units, *at)).unwrap();
            self.0.push((at, units));
        }
        at
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask {
        units: u64,
        max_wait_ms: u64,
    },
    /// Another caller, which does not queue.
    Inc(u64),
    Drop(prop::sample::Index),
    Pass {
        ticks: u64,
    },
    /// A call is dropped after the time has passed, and before any call is polled.
    PassAndDrop(prop::sample::Index),
}

fn step(most: u64) -> impl Generator<Value = Step> {
    // No deadline falls on a tick, so it is either before or after an admission.
    let max_wait_ms = prop_oneof![(0_u64..400).prop_map(|ticks| ticks * TICK_MS + 5), Just(0)];
    prop_oneof![
        6 => (1..=most, max_wait_ms).prop_map(|(units, max_wait_ms)| Step::Ask { units, max_wait_ms }),
        1 => (1..=most).prop_map(Step::Inc),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        6 => (1_u64..60).prop_map(|ticks| Step::Pass { ticks }),
        1 => any::<prop::sample::Index>().prop_map(Step::PassAndDrop),
    ]
}

/// A call that waits, and what it asks for.
struct Waiting {
    task: Task,
    units: u64,
    deadline_ms: u64,
}

/// The limiter, and the queue and the log that it must equal.
struct World {
    clock: ManualClock,
    rl: RateLimiter,
    log: Log,
    queue: VecDeque<Waiting>,
    now: u64,
    are_all_single: bool,
}

impl World {
    fn new(are_all_single: bool) -> Self {
        let clock = ManualClock::new();
        let rl = builder(clock.clone()).build().unwrap();
        Self { clock, rl, log: Log::default(), queue: VecDeque::new(), now: 0, are_all_single }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Ask { units, max_wait_ms } => {
                let max_wait = Duration::from_millis(*max_wait_ms);
                let task = Task::new(&self.rl, "k", *units, rate(CAPACITY), max_wait);
                let deadline_ms = self.now * TICK_MS + max_wait_ms;
                self.queue.push_back(Waiting { task, units: *units, deadline_ms });
                self.run();
                // The wait of single units is known exactly, so a call that waits is in time.
                if self.are_all_single && !self.queue.is_empty() {
                    let units = self.queue.iter().map(|waiting| waiting.units);
                    let admitted = self.log.clone().admits_last(units, self.now);
                    assert!(admitted * TICK_MS <= self.queue.back().unwrap().deadline_ms.max(deadline_ms));
                }
            }
            Step::Inc(units) => {
                let is_allowed = self.rl.local().absolute().inc("k", &rate(CAPACITY), *units).is_allowed();
                assert_eq!(is_allowed, self.log.fits(*units, self.now));
                if is_allowed {
                    self.log.0.push((self.now, *units));
                }
            }
            Step::Drop(index) => {
                self.drop_one(index);
                self.run();
            }
            Step::Pass { ticks } => (0..*ticks).for_each(|_| {
                self.tick();
                self.run();
            }),
            Step::PassAndDrop(index) => {
                self.tick();
                self.drop_one(index);
                self.run();
            }
        }
        assert_eq!(
            self.rl.local().absolute().get("k"),
            self.log.used(self.now),
            "what is charged is what was admitted"
        );
    }

    fn tick(&mut self) {
        self.now += 1;
        self.clock.advance(Duration::from_millis(TICK_MS));
    }

    fn drop_one(&mut self, index: &prop::sample::Index) {
        if !self.queue.is_empty() {
            self.queue.remove(index.index(self.queue.len()));
        }
    }

    /// Polls the calls that are woken until none is, the latest first, and compares what ends with the queue.
    fn run(&mut self) {
        let mut ended: Vec<(usize, RateLimitDecision)> = Vec::new();
        loop {
            let before = ended.len();
            let mut has_run = false;
            for (index, waiting) in self.queue.iter_mut().enumerate().rev() {
                has_run |= waiting.task.flag.0.load(Ordering::SeqCst);
                if let Some(outcome) = waiting.task.run() {
                    ended.push((index, outcome.unwrap()));
                }
            }
            if !has_run && ended.len() == before {
                break;
            }
        }
        for (index, decision) in ended.iter().filter(|(_, decision)| !decision.is_allowed()) {
            self.check_refusal(*index, decision.retry_after().unwrap());
        }
        let admitted: Vec<usize> =
            ended.iter().filter(|(_, decision)| decision.is_allowed()).map(|(index, _)| *index).collect();
        let is_refused = |index: usize| ended.iter().any(|(other, decision)| *other == index && !decision.is_allowed());
        let mut expected = Vec::new();
        for (index, waiting) in self.queue.iter().enumerate().filter(|(index, _)| !is_refused(*index)) {
            if !self.log.fits(waiting.units, self.now) {
                break;
            }
            self.log.0.push((self.now, waiting.units));
            expected.push(index);
        }
        assert_eq!(admitted, expected, "first come, first served, as soon as it fits");
        let mut index = 0;
        self.queue.retain(|_| {
            index += 1;
            !ended.iter().any(|(other, _)| *other == index - 1)
        });
        // The deadline of a call that still waits has not passed.
        assert!(self.queue.iter().all(|waiting| waiting.deadline_ms >= self.now * TICK_MS));
    }

    /// A call is refused only if its admission comes after its deadline, and its wait is no longer than the true one.
    fn check_refusal(&self, index: usize, wait: Duration) {
        let units = self.queue.iter().take(index + 1).map(|waiting| waiting.units);
        let admitted_ms = self.log.clone().admits_last(units, self.now) * TICK_MS;
        let deadline_ms = self.queue[index].deadline_ms;
        assert!(admitted_ms > deadline_ms, "admitted at {admitted_ms} with the deadline {deadline_ms}");
        let told_ms = self.now * TICK_MS + u64::try_from(wait.as_millis()).unwrap();
        assert!(told_ms <= admitted_ms.max(self.now * TICK_MS + 1), "{told_ms} is later than {admitted_ms}");
        if self.are_all_single && admitted_ms > self.now * TICK_MS {
            assert_eq!(told_ms, admitted_ms, "the wait is exact");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn waiting_calls_equal_a_naive_queue(steps in prop::collection::vec(step(4), 1..120)) {
        let mut world = World::new(false);
        steps.iter().for_each(|step| world.play(step));
        (0..500).for_each(|_| world.play(&Step::Pass { ticks: 1 }));
        prop_assert!(world.queue.is_empty(), "every call ends");
    }

    #[test]
    fn the_wait_behind_calls_for_single_units_is_exact(steps in prop::collection::vec(step(1), 1..120)) {
        let mut world = World::new(true);
        steps.iter().for_each(|step| world.play(step));
    }
}

#[test]
fn a_call_that_cannot_be_admitted_in_time_ends_at_once() {
    let clock = ManualClock::new();
    let rl = builder(clock).build().unwrap();
    let ask = |units, max_wait_ms| {
        Task::new(&rl, "k", units, rate(CAPACITY), Duration::from_millis(max_wait_ms)).run().map(Result::unwrap)
    };
    let never = ask(CAPACITY + 1, u64::MAX).unwrap();
    assert!(!never.is_allowed() && never.retry_after().is_none(), "it never fits");
    assert!(ask(CAPACITY, 0).unwrap().is_allowed());
    let refused = ask(1, 1_009).unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1_010)));
    assert!(ask(1, 1_010).is_none(), "this one waits");
    assert!(ask(0, 0).unwrap().is_allowed(), "a cost of 0 charges nothing");
    assert!(ask(CAPACITY + 1, 1_000_000).is_some_and(|decision| decision.retry_after().is_none()));
    assert_eq!(rl.local().absolute().get("k"), CAPACITY);
}

/// Also with calls ahead that can wait for longer than this one.
#[test]
fn a_call_behind_others_ends_at_once_if_they_take_too_long() {
    let clock = ManualClock::new();
    let rl = builder(clock.clone()).build().unwrap();
    let task = |units, max_wait_ms| Task::new(&rl, "k", units, rate(CAPACITY), Duration::from_millis(max_wait_ms));
    assert!(task(CAPACITY, 0).run().unwrap().unwrap().is_allowed());
    let mut waiting: Vec<Task> = (0..3).map(|_| task(CAPACITY, 10_000)).collect();
    waiting.iter_mut().for_each(|task| assert!(task.run().is_none()));
    let refused = task(1, 4_039).run().unwrap().unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(4_040)));
    let mut last = task(1, 4_040);
    assert!(last.run().is_none());
    for passed in 1..=4_u32 {
        clock.advance(Duration::from_millis(1_010));
        let admitted = waiting
            .iter_mut()
            .chain([&mut last])
            .filter_map(Task::run)
            .filter(|outcome| outcome.as_ref().unwrap().is_allowed());
        assert_eq!(admitted.count(), 1, "after {passed} windows");
    }
}

/// Other callers take the units, so the first call waits for longer, and the one behind it for too long.
#[test]
fn a_call_behind_one_that_learns_of_a_longer_wait_ends_at_once() {
    let clock = ManualClock::new();
    let rl = builder(clock.clone()).build().unwrap();
    let task = |max_wait_ms| Task::new(&rl, "k", 1, rate(CAPACITY), Duration::from_millis(max_wait_ms));
    assert!(rl.local().absolute().inc("k", &rate(CAPACITY), CAPACITY).is_allowed());
    let (mut first, mut second) = (task(5_000), task(2_000));
    assert!(first.run().is_none() && second.run().is_none());
    clock.advance(Duration::from_millis(1_010));
    // The second call is polled before the first one is.
    assert!(second.run().is_none());
    assert!(rl.local().absolute().inc("k", &rate(CAPACITY), CAPACITY).is_allowed());
    assert!(first.run().is_none());
    let refused = second.run().expect("it is woken").unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1_010)));
    clock.advance(Duration::from_millis(1_010));
    assert!(first.run().unwrap().unwrap().is_allowed());
}

#[test]
fn a_call_behind_one_that_is_not_polled_ends_at_its_deadline() {
    let clock = ManualClock::new();
    let rl = builder(clock.clone()).build().unwrap();
    let task = || Task::new(&rl, "k", 1, rate(CAPACITY), Duration::from_millis(1_500));
    assert!(rl.local().absolute().inc("k", &rate(CAPACITY), CAPACITY).is_allowed());
    let (mut busy, mut second) = (task(), task());
    assert!(busy.run().is_none() && second.run().is_none());
    clock.advance(Duration::from_millis(1_499));
    assert!(second.run().is_none());
    clock.advance(Duration::from_millis(1));
    assert!(!second.run().unwrap().unwrap().is_allowed());
    assert!(busy.run().unwrap().unwrap().is_allowed(), "its units have long been free");
}

#[test]
fn a_call_with_a_lower_rate_is_not_refused_too_early_behind_others() {
    let clock = ManualClock::new();
    let rl = builder(clock.clone()).build().unwrap();
    let mut ahead: Vec<Task> = (0..4).map(|_| Task::new(&rl, "k", 10, rate(20), Duration::from_secs(9))).collect();
    assert!(ahead.iter_mut().filter_map(Task::run).count() == 2);
    // 40 units are ten times this call's limit of 4, but they need only two windows.
    let mut slow = Task::new(&rl, "k", 4, rate(4), Duration::from_secs(5));
    assert!(slow.run().is_none());
    clock.set_ms(1_010);
    assert_eq!(ahead.iter_mut().filter_map(Task::run).count(), 2);
    assert!(slow.run().is_none());
    clock.advance(Duration::from_millis(1_010));
    assert!(slow.run().unwrap().unwrap().is_allowed());
}

/// Each of three calls takes the whole limit. The second one is dropped after its n-th poll, for every n.
#[test]
fn a_call_that_is_dropped_after_any_poll_charges_nothing_and_passes_its_turn_on() {
    let mut was_admitted = false;
    for polls in 0.. {
        let clock = ManualClock::new();
        let rl = builder(clock.clone()).build().unwrap();
        let task = || Task::new(&rl, "k", CAPACITY, rate(CAPACITY), Duration::from_secs(60));
        assert!(task().run().unwrap().unwrap().is_allowed());
        let (mut first, mut dropped, mut last) = (task(), task(), task());
        let mut admitted = [first.run().is_some(), false, false];
        for _ in 0..polls {
            // Also without a wake-up: a combinator may poll at any time.
            dropped.flag.0.store(true, Ordering::SeqCst);
            if dropped.run().is_some() {
                admitted[1] = true;
                break;
            }
            admitted[2] |= last.run().is_some();
            clock.advance(Duration::from_millis(505));
            admitted[0] |= first.run().is_some();
        }
        drop(dropped);
        let mut used = Vec::new();
        for _ in 0..8 {
            admitted[0] |= first.run().is_some();
            admitted[2] |= last.run().is_some();
            used.push(rl.local().absolute().get("k"));
            clock.advance(Duration::from_millis(505));
        }
        assert!(admitted[0] && admitted[2], "dropped after {polls} polls: {admitted:?}");
        // A full window holds one call's units, and the next one follows at once.
        assert!(used.iter().all(|used| *used <= CAPACITY), "{used:?}");
        was_admitted |= admitted[1];
        if was_admitted {
            return;
        }
    }
}

#[test]
fn the_number_of_waiting_calls_is_bounded() {
    let clock = ManualClock::new();
    let rl = builder(clock).max_waiting(3).max_waiting_per_key(2).build().unwrap();
    let task = |key| Task::new(&rl, key, CAPACITY, rate(CAPACITY), Duration::from_secs(60));
    let is_full =
        |outcome: Option<Outcome>| outcome.unwrap().is_err_and(|error| error.kind() == StoreErrorKind::QueueFull);
    for key in ["a", "b", "c", "d"] {
        assert!(task(key).run().unwrap().unwrap().is_allowed());
    }
    let mut waiting: Vec<Task> = ["a", "a"].into_iter().map(task).collect();
    waiting.iter_mut().for_each(|task| assert!(task.run().is_none()));
    assert!(is_full(task("a").run()), "two wait for this key");
    waiting.push(task("b"));
    assert!(waiting[2].run().is_none(), "another key has room");
    assert!(is_full(task("c").run()), "three wait");
    assert!(task("e").run().unwrap().unwrap().is_allowed(), "a call that need not wait is served");
    drop(waiting.pop());
    let mut one = task("c");
    assert!(one.run().is_none(), "a dropped call has made room");
    assert!(is_full(task("a").run()) && is_full(task("d").run()));
    for wrong in [RateLimiter::builder().max_waiting(0), RateLimiter::builder().max_waiting_per_key(0)] {
        assert_eq!(wrong.build().unwrap_err(), ConfigError::ZeroMaxWaiting);
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime; also returns the number of polls.
fn block_on<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = Box::pin(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut polls = 0;
    loop {
        polls += 1;
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return (output, polls),
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_call_waits_without_a_runtime() {
    let rl = RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).build().unwrap();
    let (calls, rate) = (rl.local().absolute(), rate(CAPACITY));
    assert!(calls.inc("k", &rate, CAPACITY).is_allowed());
    let began = Instant::now();
    let (outcome, polls) = block_on(calls.until_allowed("k", &rate, 1, Duration::from_secs(60)));
    assert!(outcome.unwrap().is_allowed() && began.elapsed() >= Duration::from_millis(900));
    assert!(polls < 10, "{polls} polls for one wait");
}

/// The timer counts real time, and fires early by a slow clock: the call then sleeps again.
#[test]
fn a_timer_that_fires_early_is_set_again() {
    struct Slow(Instant);
    impl Clock for Slow {
        fn now_ms(&self) -> u64 {
            u64::try_from(self.0.elapsed().as_millis()).unwrap() * 3 / 4
        }
    }
    let rl = builder(Slow(Instant::now())).build().unwrap();
    let (calls, rate) = (rl.local().absolute(), rate(CAPACITY));
    assert!(calls.inc("k", &rate, CAPACITY).is_allowed());
    // The first call has its turn after one window, and the other one after two.
    let first = calls.until_allowed("k", &rate, CAPACITY, Duration::from_secs(60));
    let second = calls.until_allowed("k", &rate, CAPACITY, Duration::from_millis(2_500));
    let ((first, second), polls) = block_on(futures_util::future::join(first, second));
    assert!(first.unwrap().is_allowed());
    assert!(second.unwrap().is_allowed(), "its time was not over");
    assert!((3..100).contains(&polls), "{polls} polls");
}

/// Threads wait for, drop and take units of one key while its clock moves.
#[test]
fn threads_are_charged_what_they_are_admitted_and_all_have_their_turn() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 200;
    let clock = ManualClock::new();
    // Nothing leaves the window, so the units that are charged show in the end.
    let rl = RateLimiter::builder()
        .window_size_seconds(WindowSizeSeconds::try_from(1_000_000).unwrap())
        .rate_group_size_ms(1_000.try_into().unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    let short = builder(clock.clone()).build().unwrap();
    let (admitted, running) = (AtomicUsize::new(0), AtomicUsize::new(THREADS as usize));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (rl, short, admitted, running) = (&rl, &short, &admitted, &running);
            scope.spawn(move || {
                let (narrow, wide) = (rate(CAPACITY), rate(1));
                for call in 0..CALLS {
                    let units = 1 + (thread + call) % 3;
                    let max_wait = Duration::from_secs(100_000);
                    let mut wait = Box::pin(short.local().absolute().until_allowed("k", &narrow, units, max_wait));
                    let is_dropped =
                        call % 4 == 3 && wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
                    if is_dropped {
                        drop(wait);
                    } else if call % 4 != 3 {
                        assert!(block_on(wait).0.unwrap().is_allowed());
                    }
                    // The same from a limit that always has room, where each admission is counted.
                    let (outcome, _) = block_on(rl.local().absolute().until_allowed("k", &wide, units, max_wait));
                    assert!(outcome.unwrap().is_allowed());
                    admitted.fetch_add(usize::try_from(units).unwrap(), Ordering::SeqCst);
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            clock.advance(Duration::from_millis(10));
            thread::yield_now();
        }
    });
    assert_eq!(rl.local().absolute().get("k"), admitted.into_inner() as u64);
    assert!(short.local().absolute().get("k") <= CAPACITY);
}

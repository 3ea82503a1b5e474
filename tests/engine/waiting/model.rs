//! Random calls, beside a naive queue and a naive log.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use tower_weir::{ManualClock, RateLimitDecision, RateLimiter};

use super::{CAPACITY, Task, builder, rate};

const TICK_MS: u64 = 10;
/// The window, in ticks of one bucket each.
const WINDOW: u64 = 100;

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

/// A waiting call and its request.
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

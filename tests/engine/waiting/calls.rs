//! The end of a waiting call, the bounds on waiting calls, and dropped calls.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tower_weir::{ConfigError, ManualClock, RateLimiter, StoreErrorKind};

use super::{CAPACITY, Outcome, Task, builder, rate};

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

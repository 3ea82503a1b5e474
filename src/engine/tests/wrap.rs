//! T8 and T12: numbers that wrap, clocks that step, and keys that return after a long time.

use super::{horizon, limit};
use crate::engine::{Limit, NEVER, SetMode, Window, absolute, factor, suppressed};
use crate::quota::MAX_CAPACITY;

#[test]
fn the_running_total_wraps_without_effect() {
    let limits = [limit(MAX_CAPACITY, 10, 0)];
    let horizon = horizon(&limits, 256);
    let mut window = Window::new(0);
    for round in 0..9_u64 {
        let now = round * 7;
        // Two thirds of 2^39 every 7 ticks: one of two halves is live when the next one arrives.
        let cost = MAX_CAPACITY / 2 + round;
        assert!(absolute(&mut window, now, cost, &limits, &horizon, true).is_allowed(), "round {round}");
        let refused = absolute(&mut window, now, MAX_CAPACITY, &limits, &horizon, true);
        assert!(!refused.is_allowed());
        assert_eq!(window.used(now + 11, 10), 0);
        absolute(&mut window, now + 11, 0, &limits, &horizon, true);
        window.set(now, cost, SetMode::Replace { age: 0 }, 10, &horizon);
        assert_eq!(window.used(now + 4, 10), cost);
        window.set(now, 0, SetMode::Replace { age: 0 }, 10, &horizon);
    }
}

#[test]
fn a_key_idle_for_longer_than_a_word_can_express_is_empty() {
    let limits = [limit(3, 1_000, 0)];
    let horizon = horizon(&limits, 256);
    for idle in [1_001, 1 << 23, (1 << 24) - 1, 1 << 24, (1 << 24) + 500, 5 << 24, 1 << 47] {
        let mut window = Window::new(10);
        for tick in [10, 12, 14] {
            assert!(absolute(&mut window, tick, 1, &limits, &horizon, true).is_allowed());
        }
        assert!(!absolute(&mut window, 15, 1, &limits, &horizon, true).is_allowed());
        let now = 14 + idle;
        assert_eq!(window.used(now, 1_000), 0, "idle for {idle}");
        assert!(window.is_idle(now, &horizon) && !window.is_idle(1_014, &horizon));
        // T12: from this point it behaves like a new window.
        let mut fresh = Window::new(now);
        for step in [0, 1, 1, 5, 1_003, 2_000] {
            let cost = 1 + step % 2;
            let old = absolute(&mut window, now + step, cost, &limits, &horizon, true);
            let new = absolute(&mut fresh, now + step, cost, &limits, &horizon, true);
            assert_eq!(old, new, "{step} after {idle}");
        }
    }
}

#[test]
fn a_clock_that_steps_back_admits_nothing_more() {
    let limits = [limit(2, 100, 0)];
    let horizon = horizon(&limits, 256);
    let mut window = Window::new(5_000);
    assert!(absolute(&mut window, 5_000, 1, &limits, &horizon, true).is_allowed());
    assert!(absolute(&mut window, 10, 1, &limits, &horizon, true).is_allowed());
    let refused = absolute(&mut window, 0, 1, &limits, &horizon, true);
    assert_eq!((refused.is_allowed(), refused.fits_at), (false, 5_101));
    assert_eq!(window.dump().0, 5_000, "units that come after a step back are stamped with the newest tick");
}

#[test]
fn the_longest_span_is_held_to_the_tick() {
    let span = (1 << 24) - 2;
    let limits = [limit(2, span, 0)];
    let horizon = horizon(&limits, 256);
    let mut window = Window::new(3);
    assert!(absolute(&mut window, 3, 1, &limits, &horizon, true).is_allowed());
    assert!(absolute(&mut window, 4, 1, &limits, &horizon, true).is_allowed());
    assert!(!absolute(&mut window, 3 + u64::from(span), 1, &limits, &horizon, true).is_allowed());
    assert!(absolute(&mut window, 4 + u64::from(span), 1, &limits, &horizon, true).is_allowed());
    assert!(!absolute(&mut window, 4 + u64::from(span), 1, &limits, &horizon, true).is_allowed());
}

#[test]
fn no_extreme_value_overflows() {
    let limits = [limit(MAX_CAPACITY, 1, 0), limit(0, u32::MAX >> 8, 1)];
    let horizon = horizon(&limits[..1], 4);
    let mut window = Window::new((1 << 48) - 1);
    for cost in [0, 1, MAX_CAPACITY, MAX_CAPACITY + 1, u64::MAX] {
        for now in [0, 1, (1 << 48) - 1] {
            let outcome = absolute(&mut window, now, cost, &limits[1..], &horizon, true);
            assert_eq!(outcome.fits_at == NEVER, cost > 0);
            absolute(&mut window, now, cost, &limits[..1], &horizon, true);
        }
    }
    window.set(0, u64::MAX, SetMode::Newest, 1, &horizon);
    assert_eq!(window.used(0, 1), MAX_CAPACITY);
    window.refund(0, u64::MAX, u64::MAX, &horizon);
    window.refund(0, (1 << 48) - 1, u64::MAX, &horizon);
    assert_eq!(window.used(0, 1), 0);
}

/// P10: the size of a key's window.
#[test]
fn a_key_takes_48_bytes() {
    assert_eq!(size_of::<Window>(), 48);
}

/// Shed units do not move the window, but they change the demand. A thread that read the clock earlier and runs later
/// must find a consistent state.
#[test]
fn a_suppressed_key_survives_clocks_that_step_back() {
    let limit = Limit { capacity: 50, hard: 75, window: 100, span: 100, ticks_in_200ms: 20 };
    let horizon = horizon(&[limit], 256);
    let (mut window, mut rng, mut admitted) = (Window::new(0), fastrand::Rng::with_seed(5), Vec::new());
    for step in 0..200_000_u64 {
        let newest = step / 20;
        let now = newest.saturating_sub(if rng.u8(..) < 128 { rng.u64(0..=60) } else { 0 });
        let outcome = suppressed(&mut window, now, 1, &[limit], &horizon, rng.u32(..));
        assert!((0.0..=1.0).contains(&outcome.factor));
        assert!((0.0..=1.0).contains(&factor(&mut window, now, &[limit])));
        if outcome.is_allowed() {
            let at = now.max(admitted.last().copied().unwrap_or(0));
            admitted.push(at);
            assert!(admitted.iter().rev().take_while(|&&earlier| earlier + 100 > at).count() <= 75);
        }
    }
    assert!(admitted.len() > 2_000, "{} of 5 000 are admitted", admitted.len());
}

/// P7 in the suppressed strategy: the estimates follow a changed limit.
#[test]
fn a_raised_limit_is_served_at_once_by_the_suppressed_strategy() {
    let limit = |capacity: u64| Limit { capacity, hard: capacity, window: 1_000, span: 1_000, ticks_in_200ms: 20 };
    let horizon = horizon(&[limit(1)], 256);
    let (mut window, mut rng) = (Window::new(0), fastrand::Rng::with_seed(5));
    let mut serve = |ticks: std::ops::Range<u64>, capacity: u64| {
        let mut ask = |now| suppressed(&mut window, now, 1, &[limit(capacity)], &horizon, rng.u32(..));
        ticks.filter(|&now| ask(now).is_allowed()).count()
    };
    assert!(serve(0..5_000, 10) < 60);
    assert!(serve(5_000..6_000, 10_000) == 1_000, "all of it fits the new limit");
}

/// The figures describe the limit that is nearest to exhaustion after the charge.
#[test]
fn an_admission_is_described_by_the_limit_that_binds() {
    let limits = [limit(2, 100, 0), limit(100, 6_000, 0)];
    let horizon = horizon(&limits, 256);
    let mut window = Window::new(0);
    window.set(0, 53, SetMode::Replace { age: 0 }, 6_000, &horizon);
    let now = 200;
    let outcome = absolute(&mut window, now, 1, &limits, &horizon, true);
    assert_eq!((outcome.binding, outcome.used, outcome.fits_at), (1, 54, 0));
    let outcome = absolute(&mut window, now, 1, &limits, &horizon, true);
    assert_eq!((outcome.binding, outcome.used, outcome.fits_at), (0, 2, 301));
}

/// A sweep frees the memory that a busy time allocated.
#[test]
fn a_sweep_trims_what_is_no_longer_needed() {
    let limit = Limit { capacity: 300, hard: 300, window: 1_000, span: 1_000, ticks_in_200ms: 20 };
    let horizon = horizon(&[limit], 256);
    let mut window = Window::new(0);
    for tick in 0..1_000 {
        suppressed(&mut window, tick, 1, &[limit], &horizon, 0);
    }
    assert!(window.shed().is_some());
    let held = window.dump();
    window.trim(1_000);
    assert_eq!(window.dump(), held, "the units in use stay");
    assert!(window.shed().is_some());
    assert!(absolute(&mut window, 3_000, 1, &[limit], &horizon, true).is_allowed());
    window.trim(3_000);
    assert!(window.shed().is_none() && window.words() == 0);
    assert_eq!(window.used(3_000, 1_000), 1);
}

/// Expired buckets stay for a while, but never for so long that the ages of their words wrap around.
#[test]
fn a_rare_key_is_charged_briefly_and_keeps_a_readable_history() {
    for span in [1 << 12, 1 << 22, 1 << 23, (1 << 24) - 2] {
        let limits = [limit(100, span, 0)];
        let horizon = horizon(&limits, 256);
        let span = u64::from(span);
        for gap in [span / 30, span / 3, span - 1, span, span + 1] {
            let (mut window, mut now, mut brief) = (Window::new(0), 0, 0);
            for visit in 0..200 {
                now += gap;
                match window.charge_unexpired(now, 1, &limits[0], &horizon) {
                    Some(_) => brief += 1,
                    None => assert!(absolute(&mut window, now, 1, &limits, &horizon, true).is_allowed()),
                }
                assert_eq!(window.used(now, limits[0].span), visit.min(span / gap) + 1, "{span} {gap} {visit}");
            }
            assert!(gap > span / 3 || span > 1 << 22 || brief > 100, "{brief} of 200 requests were charged briefly");
        }
    }
}

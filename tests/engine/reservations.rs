//! Reservations of a local store, against a list of the spent units and of the open reservations.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tower_weir::store::LocalReservation;
use tower_weir::{ManualClock, RateLimit, RateLimiter, WindowSizeSeconds};

const CAPACITY: u64 = 50;
const WINDOW_MS: u64 = 1_000;

/// A reservation, and its expected state.
struct Open {
    reservation: LocalReservation,
    left: u64,
    spent: u64,
    /// When its units were charged or last moved.
    stamp_ms: u64,
    end_ms: u64,
}

#[derive(Default)]
struct Model {
    spent: Vec<(u64, u64)>,
    open: Vec<Open>,
    /// Reservations that are never dropped: their units and when these were charged.
    leaked: Vec<(u64, u64)>,
}

impl Model {
    fn used(&self, now: u64) -> u64 {
        let held = self.open.iter().map(|open| (open.stamp_ms, open.left));
        let all = self.spent.iter().copied().chain(held).chain(self.leaked.iter().copied());
        all.filter(|(at, _)| now <= at + WINDOW_MS).map(|(_, units)| units).sum()
    }

    /// The most units that were spent within a window, whatever was reserved.
    fn most_spent(&self) -> u64 {
        let within = |start: u64| {
            let inside = self.spent.iter().filter(|(at, _)| (start..start + WINDOW_MS).contains(at));
            inside.map(|(_, units)| units).sum()
        };
        self.spent.iter().map(|(start, _)| within(*start)).max().unwrap_or(0)
    }
}

#[test]
fn no_window_exceeds_the_limit_and_what_is_free_can_be_reserved() {
    let (mut granted, mut refused, mut partial, mut spent_late, mut raised) = (0, 0, 0, 0, 0);
    for case in 0..60 {
        let mut random = fastrand::Rng::with_seed(case);
        let clock = ManualClock::new();
        let window = WindowSizeSeconds::try_from(1).unwrap();
        let rl = RateLimiter::builder().clock(clock.clone()).window_size_seconds(window).build().unwrap();
        let (calls, rate) = (rl.local().absolute(), RateLimit::try_from(CAPACITY as f64).unwrap());
        let (mut now, mut model) = (0, Model::default());
        for _ in 0..400 {
            let step = 10 * random.u64(0..12) * random.u64(0..3);
            now += step;
            clock.advance(Duration::from_millis(step));
            let used = model.used(now);
            assert_eq!(calls.get("k"), used, "case {case} at {now}");
            match random.u32(0..8) {
                0 => {
                    let n = random.u64(1..12);
                    let is_allowed = calls.inc("k", &rate, n).is_allowed();
                    assert_eq!(is_allowed, used + n <= CAPACITY);
                    model.spent.extend(is_allowed.then_some((now, n)));
                }
                1 | 2 => {
                    let (n, ttl_ms) = (random.u64(1..30), 10 * random.u64(1..300));
                    let ttl = Duration::from_millis(ttl_ms);
                    let is_partial = random.bool();
                    let reservation = match is_partial {
                        true => calls.reserve_up_to("k", &rate, n, ttl),
                        false => calls.reserve("k", &rate, n, ttl),
                    };
                    let free = CAPACITY.saturating_sub(used);
                    let expected = if is_partial { n.min(free) } else { n * u64::from(n <= free) };
                    assert_eq!((reservation.units(), reservation.left()), (expected, expected));
                    assert_eq!(reservation.is_granted(), expected > 0);
                    granted += u32::from(expected > 0);
                    refused += u32::from(expected == 0);
                    partial += u32::from(expected > 0 && expected < n);
                    let (left, end_ms) = (expected, now + ttl_ms);
                    model.open.push(Open { reservation, left, spent: 0, stamp_ms: now, end_ms });
                }
                3 | 4 if !model.open.is_empty() => {
                    let at = random.usize(0..model.open.len());
                    let (open, n) = (&mut model.open[at], random.u64(0..8));
                    let is_live = now <= open.stamp_ms + WINDOW_MS;
                    let is_in_time = now < open.end_ms;
                    let is_spent = open.reservation.spend(n);
                    assert_eq!(
                        is_spent,
                        is_in_time && n <= if is_live { open.left } else { 0 },
                        "case {case} at {now}"
                    );
                    if is_in_time {
                        spent_late += u32::from(is_spent && now > open.stamp_ms);
                        open.left = if is_live { open.left } else { 0 };
                        open.stamp_ms = now;
                    }
                    if is_spent {
                        (open.left, open.spent) = (open.left - n, open.spent + n);
                        model.spent.push((now, n));
                    }
                }
                5 | 6 if !model.open.is_empty() => {
                    let open = model.open.swap_remove(random.usize(0..model.open.len()));
                    let is_live = now <= open.stamp_ms + WINDOW_MS;
                    let (left, before) = (if is_live && now < open.end_ms { open.left } else { 0 }, open.spent);
                    let actual = random.u64(0..40);
                    let kept = left.min(actual.saturating_sub(before));
                    let more = actual.saturating_sub(before + kept);
                    let free = CAPACITY.saturating_sub(model.used(now) + kept);
                    let commit = open.reservation.commit(actual);
                    assert_eq!(commit.raise.is_some(), more > 0);
                    assert_eq!(commit.is_complete(), more == 0 || more <= free, "case {case} at {now}");
                    let more = if commit.is_complete() { more } else { 0 };
                    raised += u32::from(more > 0);
                    assert_eq!(commit.charged, before + kept + more);
                    model.spent.push((now, kept + more));
                }
                7 if !model.open.is_empty() => {
                    let open = model.open.swap_remove(random.usize(0..model.open.len()));
                    if random.u32(0..4) == 0 {
                        model.leaked.push((open.stamp_ms, open.left));
                        std::mem::forget(open.reservation);
                    }
                }
                _ => {}
            }
        }
        assert!(model.most_spent() <= CAPACITY, "case {case}: {}", model.most_spent());
        model.open.clear();
        clock.advance(Duration::from_millis(WINDOW_MS + 10));
        assert_eq!(calls.get("k"), 0, "nothing counts for longer");
        assert_eq!(calls.reserve("k", &rate, CAPACITY, Duration::from_secs(1)).units(), CAPACITY);
    }
    println!(
        "{granted} granted, {partial} of them in part, {refused} refused; {spent_late} spent later, {raised} raised"
    );
    assert!(granted > 800 && refused > 500 && partial > 200 && spent_late > 200 && raised > 200);
}

#[test]
fn odd_reservations_are_harmless() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let (calls, rate) = (rl.local().absolute(), RateLimit::try_from(1.0).unwrap());
    let none = calls.reserve("k", &rate, 0, Duration::MAX);
    assert!(none.is_granted() && none.units() == 0);
    assert!(!calls.reserve("k", &rate, u64::MAX, Duration::MAX).is_granted());
    let mut all = calls.reserve_up_to("k", &rate, u64::MAX, Duration::MAX);
    assert_eq!(all.units(), 60);
    assert!(!all.spend(u64::MAX) && all.spend(0) && all.left() == 60);
    let mut ended = calls.reserve("k2", &rate, 1, Duration::ZERO);
    assert!(!ended.spend(1), "its time is over at once");
    assert!(calls.delete("k").is_some());
    clock.advance(Duration::from_secs(1));
    assert!(!all.spend(1), "the key was reset");
    assert!(all.commit(u64::MAX).raise.is_some_and(|raise| !raise.is_allowed()));
    assert_eq!(calls.get("k"), 0);
}

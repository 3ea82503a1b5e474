//! Without coarsening, the window must equal a naive log of (tick, units) after every step.

use proptest::prelude::*;

use super::{horizon, limit};
use crate::decision::Verdict;
use crate::engine::{Limit, NEVER, Retention, SetMode, Window, absolute};

/// All units ever charged, one entry per admission; the log drops no entry.
#[derive(Clone, Debug, Default)]
struct NaiveLog {
    charges: Vec<(u64, u64)>,
    newest: u64,
}

impl NaiveLog {
    fn used(&self, now: u64, span: u32) -> u64 {
        let now = now.max(self.newest);
        self.charges.iter().filter(|(tick, _)| now - tick <= u64::from(span)).map(|(_, units)| units).sum()
    }

    fn fits(&self, now: u64, cost: u64, limits: &[Limit]) -> bool {
        limits.iter().all(|limit| self.used(now, limit.span) + cost <= limit.capacity)
    }

    /// The first tick at which the cost fits, found by trying every tick.
    fn fits_at(&self, now: u64, cost: u64, limits: &[Limit]) -> u64 {
        if limits.iter().any(|limit| cost > limit.capacity) {
            return NEVER;
        }
        (now.max(self.newest)..).find(|&tick| self.fits(tick, cost, limits)).unwrap_or(NEVER)
    }

    fn charge(&mut self, now: u64, cost: u64) {
        self.newest = now.max(self.newest);
        self.charges.push((self.newest, cost));
    }

    fn refund(&mut self, stamp: u64, mut cost: u64) {
        for (_, units) in self.charges.iter_mut().filter(|(tick, _)| *tick == stamp) {
            let taken = cost.min(*units);
            (*units, cost) = (*units - taken, cost - taken);
        }
    }

    fn set(&mut self, now: u64, count: u64, mode: SetMode, span: u32) {
        let live = self.used(now, span);
        self.newest = now.max(self.newest);
        let newest = self.newest;
        let alive = |tick: u64| newest - tick <= u64::from(span);
        match mode {
            SetMode::Replace { age } => {
                self.newest = newest.saturating_sub(u64::from(age));
                self.charges = vec![(self.newest, count)];
                return;
            }
            SetMode::Newest => {
                let mut excess = live.saturating_sub(count);
                if excess > 0 {
                    self.charges.retain(|&(tick, _)| alive(tick));
                }
                self.charges.sort_by_key(|&(tick, _)| tick);
                for (_, units) in &mut self.charges {
                    let taken = excess.min(*units);
                    (*units, excess) = (*units - taken, excess - taken);
                }
            }
            SetMode::Oldest => {
                let mut excess = live.saturating_sub(count);
                self.charges.sort_by_key(|&(tick, _)| tick);
                for (_, units) in self.charges.iter_mut().rev().filter(|&&mut (tick, _)| alive(tick)) {
                    let taken = excess.min(*units);
                    (*units, excess) = (*units - taken, excess - taken);
                }
            }
        }
        if count > live {
            let oldest =
                self.charges.iter().filter(|&&(tick, units)| units > 0 && alive(tick)).map(|(tick, _)| *tick).min();
            let at = if mode == SetMode::Oldest { oldest.unwrap_or(newest) } else { newest };
            self.charges.push((at, count - live));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Back(u64),
    Ask(u64),
    AskBriefly(u64),
    Peek(u64),
    Refund { which: usize, cost: u64 },
    Set { count: u64, mode: SetMode },
}

fn step(gap: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..=gap).prop_map(Step::Advance),
        1 => (0..=gap).prop_map(Step::Back),
        4 => (0_u64..=4).prop_map(Step::Ask),
        4 => (0_u64..=4).prop_map(Step::AskBriefly),
        1 => (0_u64..=20).prop_map(Step::Peek),
        1 => (any::<usize>(), 0_u64..=5).prop_map(|(which, cost)| Step::Refund { which, cost }),
        1 => (0_u64..=20, prop_oneof![
            (0..gap as u32).prop_map(|age| SetMode::Replace { age }),
            Just(SetMode::Newest),
            Just(SetMode::Oldest),
        ])
            .prop_map(|(count, mode)| Step::Set { count, mode }),
    ]
}

/// Compares one decision; a rejection must leave the state unchanged, to the bit.
fn ask(
    window: &mut Window,
    naive: &NaiveLog,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    charge: bool,
) -> bool {
    let before = window.dump();
    let fits = naive.fits(now, cost, limits);
    let outcome = absolute(window, now, cost, limits, horizon, charge);
    assert_eq!(outcome.is_allowed(), fits, "T1, T2: exactly the requests that fit are admitted");
    let violated = |limit: &Limit| naive.used(now, limit.span) + cost > limit.capacity;
    for (index, limit) in limits.iter().enumerate() {
        assert_eq!(outcome.violated & (1 << index) != 0, violated(limit), "each limit answers for itself");
    }
    if !fits || !charge || cost == 0 {
        assert_eq!(window.dump(), before, "T5: a refusal and a peek have no effect");
    }
    if !fits {
        assert_eq!(outcome.verdict, Verdict::Rejected);
        assert_eq!(outcome.fits_at, naive.fits_at(now, cost, limits), "T3: the wait is exact");
        assert!(outcome.fits_at > now, "T3: and never zero");
        if outcome.fits_at != NEVER {
            let span = limits[usize::from(outcome.binding)].span;
            assert_eq!(outcome.used_then, naive.used(outcome.fits_at, span));
        }
    }
    fits
}

fn run(limits: &[Limit], steps: &[Step], start: u64) {
    let horizon = horizon(limits, 4_096);
    let (mut window, mut naive, mut now) =
        (Window::new(start), NaiveLog { newest: start, ..NaiveLog::default() }, start);
    let mut stamps = Vec::new();
    for step in steps {
        match *step {
            Step::Advance(by) => now += by,
            Step::Back(by) => now = now.saturating_sub(by),
            Step::Ask(cost) => {
                if ask(&mut window, &naive, now, cost, limits, &horizon, true) && cost > 0 {
                    naive.charge(now, cost);
                    stamps.push((naive.newest, cost));
                }
            }
            Step::AskBriefly(cost) => {
                let [limit] = limits else { continue };
                if let Some(most) = window.charge_unexpired(now, cost, limit, &horizon) {
                    assert!(naive.fits(now, cost, limits), "a brief admission is exact");
                    naive.charge(now, cost);
                    stamps.push((naive.newest, cost));
                    assert!((naive.used(now, limit.span)..=limit.capacity).contains(&most));
                } else if ask(&mut window, &naive, now, cost, limits, &horizon, true) && cost > 0 {
                    naive.charge(now, cost);
                    stamps.push((naive.newest, cost));
                }
            }
            Step::Peek(cost) => {
                ask(&mut window, &naive, now, cost, limits, &horizon, false);
            }
            Step::Refund { which, cost } => {
                let Some(&(stamp, charged)) = which.checked_rem(stamps.len()).and_then(|at| stamps.get(at)) else {
                    continue;
                };
                if now.max(naive.newest) - stamp <= u64::from(horizon.keep()) {
                    naive.refund(stamp, cost.min(charged));
                }
                window.refund(now, stamp, cost.min(charged), &horizon);
            }
            Step::Set { count, mode } => {
                // Only the stamps after it can be refunded exactly.
                stamps.clear();
                let span = horizon.keep();
                window.set(now, count, mode, span, &horizon);
                naive.set(now, count, mode, span);
                // A count of the past may have expired.
                if !matches!(mode, SetMode::Replace { age: 1.. }) {
                    assert_eq!(window.used(now, span), count);
                }
            }
        }
        for limit in limits {
            assert_eq!(window.used(now, limit.span), naive.used(now, limit.span), "after {step:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn one_limit_equals_the_naive_log(
        (capacity, span, lag) in (1_u64..=12, 1_u32..=40, 0_u32..=2),
        steps in prop::collection::vec(step(12), 1..150),
        start in prop_oneof![Just(0_u64), Just((1 << 24) - 20), Just((1 << 40) - 3)],
    ) {
        run(&[limit(capacity, span, lag)], &steps, start);
    }

    #[test]
    fn several_limits_equal_the_naive_log(
        limits in prop::collection::vec((1_u64..=15, 1_u32..=120), 2..=4),
        lag in 0_u32..=2,
        steps in prop::collection::vec(step(40), 1..150),
    ) {
        let limits: Vec<Limit> = limits.into_iter().map(|(capacity, window)| limit(capacity, window, lag)).collect();
        run(&limits, &steps, 7);
    }

    /// P7: the limit is an argument; each decision applies its own limits to the whole history.
    #[test]
    fn limits_may_change_with_every_call(
        asks in prop::collection::vec((0_u64..=9, 1_u64..=3, 1_u64..=12, 1_u32..=60, any::<bool>()), 1..120),
    ) {
        let horizon = horizon(&[limit(1, 60, 0)], 4_096);
        let (mut window, mut naive, mut now) = (Window::new(0), NaiveLog::default(), 0);
        for (gap, cost, capacity, span, briefly) in asks {
            now += gap;
            let limit = limit(capacity, span, 0);
            let fits = naive.fits(now, cost, &[limit]);
            if briefly && window.charge_unexpired(now, cost, &limit, &horizon).is_some() {
                prop_assert!(fits);
                naive.charge(now, cost);
            } else if ask(&mut window, &naive, now, cost, &[limit], &horizon, true) {
                naive.charge(now, cost);
            }
        }
    }

    /// T6: n units at once count and expire like n times one unit.
    #[test]
    fn weights_are_equivalent(asks in prop::collection::vec((0_u64..=9, 0_u64..=5), 1..80), capacity in 1_u64..=30) {
        let limits = [limit(capacity, 25, 0)];
        let horizon = horizon(&limits, 4_096);
        let (mut whole, mut single, mut now) = (Window::new(0), Window::new(0), 0);
        for (gap, cost) in asks {
            now += gap;
            if absolute(&mut whole, now, cost, &limits, &horizon, true).is_allowed() {
                for _ in 0..cost {
                    prop_assert!(absolute(&mut single, now, 1, &limits, &horizon, true).is_allowed());
                }
            }
            for later in 0..=30 {
                prop_assert_eq!(whole.used(now + later, 25), single.used(now + later, 25));
            }
        }
    }

    /// T3: a larger cost never waits less, and waits forever exactly if it exceeds the capacity.
    #[test]
    fn waits_grow_with_the_cost(asks in prop::collection::vec((0_u64..=9, 1_u64..=4), 1..60), capacity in 1_u64..=20) {
        let limits = [limit(capacity, 30, 1)];
        let horizon = horizon(&limits, 4_096);
        let (mut window, mut now) = (Window::new(0), 0);
        for (gap, cost) in asks {
            now += gap;
            absolute(&mut window, now, cost, &limits, &horizon, true);
            let waits: Vec<u64> =
                (0..=capacity + 2).map(|n| absolute(&mut window, now, n, &limits, &horizon, false).fits_at).collect();
            prop_assert!(waits[..].is_sorted());
            prop_assert_eq!(waits.iter().position(|&at| at == NEVER), Some(capacity as usize + 1));
        }
    }
}

/// P6, T11: in any order of the limits, a refusal charges none of them, and reports the longest wait.
#[test]
fn several_limits_are_all_or_nothing() {
    let (second, hour) = (limit(10, 100, 0), limit(15, 360_000, 0));
    for limits in [[second, hour], [hour, second]] {
        let horizon = horizon(&limits, 256);
        let mut window = Window::new(0);
        assert!(absolute(&mut window, 0, 10, &limits, &horizon, true).is_allowed());
        let refused = absolute(&mut window, 0, 1, &limits, &horizon, true);
        assert_eq!((refused.capacity(&limits), refused.fits_at), (10, 101));
        assert!(absolute(&mut window, 101, 5, &limits, &horizon, true).is_allowed());
        let refused = absolute(&mut window, 101, 6, &limits, &horizon, true);
        assert_eq!((refused.capacity(&limits), refused.fits_at, refused.violated.count_ones()), (15, 360_001, 2));
        assert_eq!((window.used(101, 100), window.used(101, 360_000)), (5, 15));
    }
}

//! The two sides of the bound, in real time: clocks that lag and step, and small budgets of words.

use proptest::prelude::*;

use super::horizon;
use crate::engine::{Limit, NEVER, Retention, Window, absolute};
use crate::time::Ticks;

/// A limit in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Real {
    capacity: u64,
    window_ms: u64,
}

#[derive(Clone, Debug)]
struct Setup {
    bucket_ms: u64,
    lag_ms: u64,
    words: usize,
    limits: Vec<Real>,
}

impl Setup {
    fn ticks(&self) -> Ticks {
        Ticks::new(self.bucket_ms)
    }

    fn limits(&self) -> Vec<Limit> {
        let lag = self.ticks().covering(self.lag_ms) as u32;
        let window = |real: &Real| self.ticks().covering(real.window_ms) as u32;
        self.limits.iter().map(|real| super::limit(real.capacity, window(real), lag)).collect()
    }

    /// T2: how much longer than its window a unit may be held.
    ///
    /// This is the sum of the cell, twice the lag (of the stamp and of the decision), and two buckets. The stamp and the
    /// window are each aligned to a bucket.
    fn slack_ms(&self, limit: &Limit, horizon: &Retention) -> u64 {
        let cell = horizon.cells().find(|&(span, _)| span == u64::from(limit.span)).map_or(1, |(_, cell)| cell);
        (u64::from(limit.span) + cell + 1) * self.bucket_ms + 2 * self.lag_ms
    }
}

/// Every admission with its true time.
#[derive(Default)]
struct Admitted(Vec<(u64, u64)>);

impl Admitted {
    /// The units admitted less than `ms` ago.
    fn within(&self, now: u64, ms: u64) -> u64 {
        self.0.iter().rev().take_while(|(at, _)| at + ms > now).map(|(_, units)| units).sum()
    }
}

/// One event: the true time since the last event, the cost, the lag of the clock, and a step of the clock back.
type Event = (u64, u64, u64, Option<u64>);

fn run(setup: &Setup, events: &[Event]) {
    let (limits, ticks) = (setup.limits(), setup.ticks());
    let horizon = horizon(&limits, setup.words);
    let mut admitted = Admitted::default();
    let (mut now, mut behind, mut stepped) = (1 << 40, 0_u64, false);
    let mut window = Window::new(ticks.at(now));
    for &(gap, cost, lag, step) in events {
        now += gap;
        behind += step.unwrap_or(0);
        stepped |= step.is_some();
        let tick = ticks.at(now.saturating_sub(behind + lag % (setup.lag_ms + 1)));
        let before = admitted.0.len();
        let outcome = absolute(&mut window, tick, cost, &limits, &horizon, true);
        if outcome.is_allowed() && cost > 0 {
            admitted.0.push((now, cost));
        }
        assert!(window.words() <= horizon.words(), "T7: the log keeps to its budget");
        let (open, _, _, words) = window.dump();
        assert!(words.is_sorted_by_key(|word| word.0) && words.last().is_none_or(|word| word.0 < open));
        for (index, (real, limit)) in setup.limits.iter().zip(&limits).enumerate() {
            let used = admitted.within(now, real.window_ms);
            assert!(used <= real.capacity, "T1: {used} of {} within {} ms", real.capacity, real.window_ms);
            if outcome.violated & (1 << index) != 0 && !stepped {
                let held = admitted.within(now, setup.slack_ms(limit, &horizon));
                assert!(held + cost > real.capacity, "T2: refused {cost} with {held} of {} held", real.capacity);
            }
        }
        if !outcome.is_allowed() {
            assert_eq!(admitted.0.len(), before);
            let waits = |at: u64| absolute(&mut window.clone(), at, cost, &limits, &horizon, true).is_allowed();
            assert_eq!(outcome.fits_at == NEVER, limits.iter().any(|limit| cost > limit.capacity));
            if outcome.fits_at != NEVER {
                assert!(waits(outcome.fits_at) && !waits(outcome.fits_at - 1), "T3: exact, coarse or not");
            }
        }
    }
}

fn setup() -> impl Strategy<Value = Setup> {
    // The windows range from 1 s to 1 day, the buckets from 1 ms to the window.
    let window = prop_oneof![Just(1_000_u64), 1_000..100_000_u64, 100_000..86_400_000_u64];
    let bucket = prop_oneof![Just(1_u64), Just(10), 1..1_000_u64, 1_000..86_400_000_u64];
    let limits = prop::collection::vec((window, 1_u64..60), 1..=3);
    (limits, bucket, 0_u64..20, prop_oneof![Just(4_usize), Just(8), Just(32), Just(256)]).prop_map(
        |(limits, bucket_ms, lag_ms, words)| {
            let shortest = limits.iter().map(|limit| limit.0).min().unwrap_or(1_000);
            let longest = limits.iter().map(|limit| limit.0).max().unwrap_or(1_000);
            let bucket_ms = bucket_ms.min(shortest).max(longest.div_ceil(Ticks::MAX_SPAN - 100));
            let limits = limits.into_iter().map(|(window_ms, capacity)| Real { capacity, window_ms }).collect();
            Setup { bucket_ms, lag_ms: lag_ms.min(2 * bucket_ms), words, limits }
        },
    )
}

/// Gaps that suit the windows of the setup: within a bucket, within a window, around its end, and far beyond it.
fn events(setup: &Setup) -> impl Strategy<Value = Vec<Event>> + use<> {
    let window = setup.limits.iter().map(|limit| limit.window_ms).min().unwrap_or(1_000);
    let (longest, capacity) = (
        setup.limits.iter().map(|limit| limit.window_ms).max().unwrap_or(1_000),
        setup.limits.iter().map(|limit| limit.capacity).min().unwrap_or(1),
    );
    let around = window.saturating_sub(2 * setup.bucket_ms)..=window + 2 * setup.bucket_ms;
    let gap = prop_oneof![
        3 => Just(0_u64), 5 => 0..=setup.bucket_ms, 8 => 0..=window / capacity.max(4) + 1,
        1 => around, 1 => 0..=longest, 1 => Just(3 * longest),
    ];
    let cost = prop_oneof![6 => Just(1_u64), 2 => 0..=capacity / 2 + 1, 1 => 0..=capacity + 1];
    let step = prop_oneof![60 => Just(None), 1 => (1_u64..=3 * window).prop_map(Some)];
    prop::collection::vec((gap, cost, any::<u64>().prop_map(|lag| lag % 1_000), step), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_window_admits_too_much_and_no_request_is_refused_without_cause((setup, events) in setup().prop_flat_map(|setup| {
        let events = events(&setup);
        (Just(setup), events)
    })) {
        run(&setup, &events);
    }
}

/// A saturated limit with every budget of words. Full use is the counterpart of the upper bound.
#[test]
fn a_saturated_limit_is_used_up_to_the_stated_coarsening() {
    println!("words  admitted of limit (60 s window, 10 ms buckets, 4 000 per window offered twice over)");
    for words in [4_usize, 8, 16, 64, 256, 1_024, 16_384] {
        let limits = [super::limit(4_000, 6_000, 0)];
        let horizon = horizon(&limits, words);
        let mut window = Window::new(0);
        let admitted: u64 = (0..60_000_u64)
            .map(|tick| {
                let offered = if tick % 3 == 0 { 4 } else { 0 };
                (0..offered).filter(|_| absolute(&mut window, tick, 1, &limits, &horizon, true).is_allowed()).count()
                    as u64
            })
            .sum();
        let cell = horizon.cells().next().map_or(1, |(_, cell)| cell);
        let used = admitted as f64 / 40_000.0;
        println!("{words:5}  {used:.4}  (cell {cell} ticks)");
        assert!(used >= 6_000.0 / (6_000.0 + cell as f64 + 2.0) - 0.001, "{words} words: {used}");
        assert!(used <= 1.0 + 1e-9);
    }
}

/// Limits of 10/s and 5000/h with small budgets, and Poisson arrivals at 1.2/s, which is within both limits. Merging by
/// the cell of the longest window admitted only a fifth of them, with gaps of two minutes.
#[test]
fn a_long_window_does_not_starve_a_short_one() {
    for words in [8_usize, 16, 32, 64, 256] {
        let limits = [super::limit(10, 100, 0), super::limit(5_000, 360_000, 0)];
        let horizon = horizon(&limits, words);
        let (mut window, mut rng) = (Window::new(0), fastrand::Rng::with_seed(7));
        let (mut now, mut offered, mut admitted, mut last, mut gap) = (0.0_f64, 0_u32, 0_u32, 0.0_f64, 0.0_f64);
        while now < 3.0 * 360_000.0 {
            now += -(1.0 - rng.f64()).ln() * 100.0 / 1.2;
            offered += 1;
            if absolute(&mut window, now as u64, 1, &limits, &horizon, true).is_allowed() {
                admitted += 1;
                gap = gap.max(now - last);
                last = now;
            }
        }
        println!("{words:3} words: {admitted} of {offered}, longest gap {:.1} s", gap / 100.0);
        // The load is 4 320 per hour. Below 32 words, the documented coarsening of the hour exceeds the remaining room.
        let cell = horizon.cells().last().map_or(1.0, |(_, cell)| cell as f64);
        let possible = f64::from(offered).min(3.0 * 5_000.0 / (1.0 + cell / 360_000.0));
        assert!(f64::from(admitted) >= 0.98 * possible, "{words} words: {admitted} of {possible}");
        assert!(words < 32 || gap < 1_500.0);
    }
}

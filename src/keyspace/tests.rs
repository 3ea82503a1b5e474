//! A table with its short cuts answers like one window per key without them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::window_table::{Brief, Place, WindowTable};
use crate::engine::{self, Limit, Outcome, Retention, Window};
use crate::telemetry::TableWatch;

const SPAN: u32 = 40;
/// How long a test may take before it fails.
const LONG: Duration = Duration::from_secs(60);

fn limit(capacity: u64, window: u32) -> Limit {
    Limit { capacity, hard: capacity, window, span: window, ticks_in_200ms: 20 }
}

fn table() -> WindowTable {
    let table = WindowTable::new(1_000, false, TableWatch::new("local", None));
    super::registry::Kept::keep_history(&table, &[SPAN]);
    table
}

/// A window per key, and the engine alone.
struct Plain {
    horizon: Retention,
    windows: HashMap<u8, Window>,
}

impl Plain {
    fn absolute(&mut self, key: u8, now: u64, cost: u64, limits: &[Limit]) -> Outcome {
        let mut window = self.windows.remove(&key);
        let is_known = window.is_some();
        let outcome =
            engine::absolute(window.get_or_insert_with(|| Window::new(now)), now, cost, limits, &self.horizon, true);
        if is_known || (outcome.is_allowed() && cost > 0) {
            self.windows.extend(window.map(|window| (key, window)));
        }
        outcome
    }
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Back(u64),
    Ask { key: u8, cost: u64, limit: usize, briefly: bool },
    AskAll { key: u8, cost: u64 },
    Refund { key: u8, back: u64, cost: u64 },
    Remove(u8),
    Sweep,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..=12).prop_map(Step::Advance),
        1 => (0_u64..=12).prop_map(Step::Back),
        16 => (0_u8..3, 0_u64..=4, 0_usize..3, any::<bool>())
            .prop_map(|(key, cost, limit, briefly)| Step::Ask { key, cost, limit, briefly }),
        4 => (0_u8..3, 0_u64..=4).prop_map(|(key, cost)| Step::AskAll { key, cost }),
        1 => (0_u8..3, 0_u64..20, 0_u64..=4).prop_map(|(key, back, cost)| Step::Refund { key, back, cost }),
        1 => (0_u8..3).prop_map(Step::Remove),
        1 => Just(Step::Sweep),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// All figures of a decision are those of the engine, whether a published refusal answers or not.
    #[test]
    fn short_cuts_change_no_decision(steps in prop::collection::vec(step(), 1..200)) {
        let (table, limits) = (table(), [limit(6, SPAN), limit(7, SPAN), limit(3, 15)]);
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        horizon.assign(&[SPAN]);
        let (mut plain, mut now) = (Plain { horizon, windows: HashMap::new() }, 1_000_u64);
        for step in steps {
            match step {
                Step::Advance(by) => now += by,
                Step::Back(by) => now -= by,
                Step::Ask { key, cost, limit, briefly } => {
                    let limits = &limits[limit..=limit];
                    let print = table.fingerprint(&[key]);
                    let expected = plain.absolute(key, now, cost, limits);
                    let brief = briefly.then(|| table.absolute_briefly(print, now, cost, &limits[0])).flatten();
                    match brief {
                        Some(Brief::Charged { used }) => {
                            prop_assert!(expected.is_allowed() && used >= expected.used);
                        }
                        Some(Brief::Refused(refused)) => {
                            prop_assert_eq!(refused.outcome(), expected);
                        }
                        Some(Brief::Decided(outcome)) => prop_assert_eq!(outcome, expected),
                        None => prop_assert_eq!(table.absolute(print, now, cost, limits), (expected, Place::Own)),
                    }
                }
                Step::AskAll { key, cost } => {
                    let expected = plain.absolute(key, now, cost, &limits);
                    let outcome = table.absolute(table.fingerprint(&[key]), now, cost, &limits);
                    prop_assert_eq!(outcome, (expected, Place::Own));
                }
                Step::Refund { key, back, cost } => {
                    if let Some(window) = plain.windows.get_mut(&key) {
                        window.refund(now, now - back, cost, &plain.horizon);
                    }
                    table.settle(table.fingerprint(&[key]), |window, horizon| {
                        window.refund(now, now - back, cost, horizon);
                    });
                }
                Step::Remove(key) => {
                    plain.windows.remove(&key);
                    table.remove(&[key], |_| ());
                }
                Step::Sweep => {
                    (0..256).for_each(|_| assert!(table.sweep_step(now) <= 3));
                    let horizon = &plain.horizon;
                    plain.windows.retain(|_, window| !window.is_idle(now, horizon));
                }
                Step::Clear => {
                    plain.windows.clear();
                    table.clear();
                }
            }
        }
    }
}

/// The refusal of a key that is refused again and again is published, and stands until the oldest unit expires.
#[test]
fn a_repeated_refusal_is_published() {
    let (table, limits) = (table(), [limit(5, SPAN)]);
    let print = table.fingerprint(b"key");
    let ask = |now: u64, cost: u64| table.absolute_briefly(print, now, cost, &limits[0]);
    assert!(ask(10, 1).is_none(), "unknown");
    assert!(table.absolute(print, 10, 2, &limits).0.is_allowed());
    assert!(table.absolute(print, 12, 3, &limits).0.is_allowed());
    let is_found = |brief: Option<Brief>| matches!(brief, Some(Brief::Refused(_)));
    assert!(!is_found(ask(12, 1)) && !is_found(ask(12, 1)), "the second refusal publishes");
    assert!(is_found(ask(12, 1)) && is_found(ask(50, 1)), "it stands while the oldest unit is live");
    assert!(!is_found(ask(12, 2)), "another cost is another question");
    assert!(matches!(ask(51, 1), Some(Brief::Decided(outcome)) if outcome.is_allowed()), "2 units have expired");
    assert!(
        matches!(ask(51, 2), Some(Brief::Decided(outcome)) if !outcome.is_allowed()),
        "2 + 1 units fit, 3 + 3 do not"
    );
}

/// Whoever changes a key sees the change in the next decision, although other threads are refused all the time.
#[test]
fn a_change_ends_a_published_refusal_at_once() {
    let (table, limits, is_done, found) = (table(), [limit(5, SPAN)], AtomicBool::new(false), AtomicU64::new(0));
    let (print, start) = (table.fingerprint(b"key"), Instant::now());
    assert!(table.absolute(print, 7, 5, &limits).0.is_allowed());
    thread::scope(|scope| {
        let refused = || {
            while !is_done.load(Ordering::Relaxed) && start.elapsed() < LONG {
                // A cost of 2 never fits, so these threads charge nothing.
                match table.absolute_briefly(print, 7, 2, &limits[0]) {
                    Some(Brief::Charged { .. }) => panic!("at most one unit is free"),
                    Some(Brief::Refused(refused)) => {
                        let outcome = refused.outcome();
                        assert!((4..=5).contains(&outcome.used), "{outcome:?}");
                        assert_eq!((outcome.fits_at, outcome.newest, outcome.used_then), (48, 7, 0));
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Brief::Decided(outcome)) => assert!(!outcome.is_allowed()),
                    None => panic!("the key is known"),
                }
            }
        };
        scope.spawn(refused);
        scope.spawn(refused);
        let mut round = 0;
        while round < 20_000 || found.load(Ordering::Relaxed) < 1_000 {
            assert!(start.elapsed() < LONG, "no published refusal was read");
            round += 1;
            assert!(!table.absolute(print, 7, 1, &limits).0.is_allowed(), "round {round}");
            table.settle(table.fingerprint(b"key"), |window, horizon| assert_eq!(window.refund(7, 7, 1, horizon), 1));
            assert!(table.absolute(print, 7, 1, &limits).0.is_allowed(), "round {round}: the unit was refunded");
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

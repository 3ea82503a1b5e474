//! What only the suppressed strategy does; the hard cap is at one and a half times the limit.

use tower_weir::RateLimitComparator::Always;
use tower_weir::RateLimitDecision;
use tower_weir::limiter::Verdict;

use super::stores::{Kind, Rig};

pub(crate) async fn nothing_is_shed_below_the_limit_and_nothing_passes_the_hard_cap(rig: &Rig) {
    let (calls, rate, key) = (rig.calls(Kind::Suppressed), rig.rate(100), b"hard".as_slice());
    for _ in 0..100 {
        assert_eq!(calls.inc(key, &rate, 1).await, RateLimitDecision::Allowed, "the window has not been offered more");
    }
    let (mut shed, mut passed) = (0, 0);
    for _ in 0..1_000 {
        match calls.decide(key, &rate, 1).await.verdict() {
            Verdict::Suppressed { is_allowed: true } => passed += 1,
            Verdict::Suppressed { is_allowed: false } => shed += 1,
            verdict => panic!("{verdict:?} in the band"),
        }
    }
    assert!((1..=50).contains(&passed) && shed >= 950, "{passed} passed in the band, {shed} were shed");
    let used = calls.get(key).await;
    assert_eq!(used, 100 + passed);
    // What is left up to the hard cap is not passed by a cost that is heavier.
    assert!(!calls.inc(key, &rate, 151 - used).await.is_allowed());
    assert_eq!(calls.get(key).await, used);
}

pub(crate) async fn the_factor_tells_where_the_key_stands(rig: &Rig) {
    let (calls, rate, key) = (rig.calls(Kind::Suppressed), rig.rate(100), b"factor".as_slice());
    assert_eq!(rig.factor(key, &rate).await, 0.0);
    assert_eq!(calls.delete(key).await, None, "a question made the key known");
    assert_eq!(calls.inc(key, &rate, 99).await, RateLimitDecision::Allowed);
    assert_eq!(rig.factor(key, &rate).await, 0.0, "one more fits the limit");
    assert_eq!(calls.set_if(key, &rate, Always, 120, None).await.current_total, 120);
    let factor = rig.factor(key, &rate).await;
    assert!(factor > 0.0 && factor < 1.0, "{factor} in the band");
    match calls.is_allowed(key, &rate).await {
        RateLimitDecision::Suppressed { suppression_factor, is_allowed: true } => {
            assert!(suppression_factor > 0.0 && suppression_factor < 1.0, "{suppression_factor}");
        }
        decision => panic!("{decision:?} in the band"),
    }
    assert_eq!(calls.get(key).await, 120, "a question was charged");
    assert_eq!(calls.set_if(key, &rate, Always, 150, None).await.current_total, 150);
    assert_eq!(rig.factor(key, &rate).await, 1.0);
    let full = RateLimitDecision::Suppressed { suppression_factor: 1.0, is_allowed: false };
    assert_eq!((calls.is_allowed(key, &rate).await, calls.inc(key, &rate, 1).await), (full, full));
    let exact = calls.decide(key, &rate, 1).await;
    assert!(exact.retry_after().is_some(), "at the hard cap the wait is known: {exact:?}");
    assert_eq!(rig.factor(key, &rig.rate(1_000)).await, 0.0, "a raised limit");
}

pub(crate) async fn a_lower_total_ends_the_shedding(rig: &Rig) {
    let (calls, rate) = (rig.calls(Kind::Suppressed), rig.rate(100));
    for total in [0, 40] {
        let key = format!("lowered to {total}").into_bytes();
        for _ in 0..400 {
            calls.inc(&key, &rate, 1).await;
        }
        assert!(rig.factor(&key, &rate).await > 0.0, "the key sheds, so this shows something");
        assert!(calls.set_if(&key, &rate, Always, total, None).await.matched);
        assert_eq!(rig.factor(&key, &rate).await, 0.0, "lowered to {total}");
        for used in total..100 {
            assert_eq!(calls.inc(&key, &rate, 1).await, RateLimitDecision::Allowed, "{used} used of 100");
        }
        assert!(matches!(calls.inc(&key, &rate, 1).await, RateLimitDecision::Suppressed { .. }));
    }
}

pub(crate) async fn both_strategies_charge_one_history(rig: &Rig) {
    let (absolute, suppressed) = (rig.calls(Kind::Absolute), rig.calls(Kind::Suppressed));
    let (rate, key) = (rig.rate(100), b"both".as_slice());
    assert_eq!(absolute.decide(key, &rate, 60).await.used(), 60);
    assert_eq!(suppressed.decide(key, &rate, 40).await.used(), 100);
    assert!(matches!(absolute.inc(key, &rate, 1).await, RateLimitDecision::Rejected { .. }));
    assert_eq!((absolute.get(key).await, suppressed.get(key).await), (100, 100));
}

//! The engine's calls on a key.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower_weir::HistoryPreservation::{PreserveNewest, PreserveOldest};
use tower_weir::RateLimitComparator::{Always, Eq, Gt, Lt, Ne};
use tower_weir::RateLimitDecision;
use tower_weir::limiter::Verdict;

use super::stores::{Kind, PATIENCE, Rig, assert_refused};

/// A key for each strategy, for the two share their histories.
fn key(kind: Kind, name: &str) -> Vec<u8> {
    format!("{kind:?} {name}").into_bytes()
}

pub(crate) async fn what_fits_is_admitted_and_the_rest_refused(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), key(kind, "fill"));
    assert_eq!(calls.get(&key).await, 0);
    for used in 1..=10 {
        assert_eq!(calls.is_allowed(&key, &rate).await, RateLimitDecision::Allowed);
        let decision = calls.decide(&key, &rate, 1).await;
        assert_eq!(decision.verdict(), Verdict::Allowed, "{decision:?}");
        assert_eq!((decision.limit(), decision.used(), decision.remaining()), (10, used, 10 - used));
        assert_eq!(calls.get(&key).await, used);
    }
    for _ in 0..3 {
        assert_refused(calls.inc(&key, &rate, 1).await, kind);
        let decision = calls.decide(&key, &rate, 1).await;
        assert_eq!((decision.limit(), decision.used(), decision.remaining()), (10, 10, 0));
        let wait = decision.retry_after().unwrap();
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(60) + rig.blur(), "{wait:?}");
        assert_refused(calls.is_allowed(&key, &rate).await, kind);
        assert_eq!(calls.get(&key).await, 10, "a refusal was charged");
    }
}

pub(crate) async fn a_cost_is_charged_as_a_whole_or_not_at_all(rig: &Rig, kind: Kind) {
    let (calls, rate) = (rig.calls(kind), rig.rate(10));
    let (heavy, exact) = (key(kind, "heavy"), key(kind, "exact"));
    assert_eq!(calls.decide(&heavy, &rate, 7).await.used(), 7);
    assert_refused(calls.inc(&heavy, &rate, 4).await, kind);
    assert_eq!(calls.get(&heavy).await, 7, "a part of a cost was charged");
    for cost in [7, 3] {
        assert_eq!(calls.inc(&exact, &rate, cost).await, RateLimitDecision::Allowed);
    }
    assert_eq!(calls.get(&exact).await, 10);
    if kind == Kind::Absolute {
        // A refusal leaves no trace: what is smaller still fits.
        assert_eq!(calls.inc(&heavy, &rate, 3).await, RateLimitDecision::Allowed);
        assert_refused(calls.inc(&heavy, &rate, 1).await, kind);
    }
}

pub(crate) async fn a_cost_can_be_asked_for_without_a_charge(rig: &Rig, kind: Kind) {
    if kind == Kind::Suppressed {
        return;
    }
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), key(kind, "ask"));
    for used in [0, 4, 9, 10] {
        while calls.get(&key).await < used {
            assert_eq!(calls.inc(&key, &rate, 1).await, RateLimitDecision::Allowed);
        }
        for cost in [1, 2, 6, 10, 11, u64::MAX] {
            let decision = rig.would_allow(&key, &rate, cost).await;
            assert_eq!(decision.is_allowed(), cost <= 10 - used, "{cost} beside {used}: {decision:?}");
            assert_eq!(calls.get(&key).await, used, "a question was charged");
            if !decision.is_allowed() {
                assert_eq!(decision.retry_after().is_some(), cost <= 10, "{cost} beside {used}");
            }
        }
    }
}

pub(crate) async fn a_decision_at_once_charges_once_or_not_at_all(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(1_000), key(kind, "at once"));
    let Some(first) = rig.try_inc(kind, &key, &rate, 1) else { return };
    let try_inc = |n: u64| rig.try_inc(kind, &key, &rate, n).unwrap();
    assert_eq!(first, None, "an unknown key has no lease");
    assert_eq!(calls.get(&key).await, 0, "what is not decided is not charged");
    let (mut admitted, mut at_once, began) = (0, 0, Instant::now());
    // Each time the lease is spent, a decision that waits brings another.
    while at_once < 20 {
        assert!(began.elapsed() < PATIENCE, "{at_once} decisions at once");
        assert!(admitted < 900, "{at_once} decisions at once, and the limit is near");
        match try_inc(2) {
            Some(decision) => {
                assert_eq!(decision, RateLimitDecision::Allowed, "{admitted} of 1000 used");
                (admitted, at_once) = (admitted + 2, at_once + 1);
            }
            None => {
                assert!(calls.inc(&key, &rate, 1).await.is_allowed());
                admitted += 1;
            }
        }
    }
    assert_eq!(calls.get(&key).await, admitted, "each admission was charged once");
    // The instance knows how long the refusal holds, so the call returns it at once.
    assert_eq!(calls.set_if(&key, &rate, Always, 1_000, None).await.current_total, 1_000);
    assert_refused(calls.inc(&key, &rate, 1).await, kind);
    if kind == Kind::Absolute {
        assert_refused(try_inc(1).expect("the refusal is known"), kind);
    } else if let Some(decision) = try_inc(1) {
        assert_refused(decision, kind);
    }
    assert_eq!(calls.get(&key).await, 1_000, "a refusal was charged");
}

pub(crate) async fn a_cost_of_nothing_only_looks(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), key(kind, "look"));
    for _ in 0..3 {
        assert_eq!(calls.inc(&key, &rate, 0).await, RateLimitDecision::Allowed);
    }
    assert_eq!(calls.delete(&key).await, None, "a look made the key known");
    assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
    let look = calls.decide(&key, &rate, 0).await;
    assert_eq!((look.verdict(), look.used()), (Verdict::Allowed, 10));
    assert_refused(calls.inc(&key, &rate, 1).await, kind);
}

pub(crate) async fn a_cost_above_the_limit_never_fits(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), key(kind, "never"));
    for cost in [11, 1 << 39, 1 << 40, (1 << 40) + 1, u64::MAX] {
        let refusal = calls.decide(&key, &rate, cost).await;
        assert!(!refusal.is_allowed(), "{cost} of 10: {refusal:?}");
        assert_eq!(refusal.retry_after(), None, "{cost} of 10 is told to wait");
        let short = calls.inc(&key, &rate, cost).await;
        assert_refused(short, kind);
        if let RateLimitDecision::Rejected { retry_after_ms, .. } = short {
            assert_eq!(retry_after_ms, u64::MAX);
        }
    }
    assert_eq!((calls.get(&key).await, calls.delete(&key).await), (0, None), "a refusal left something behind");
    assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
    assert_eq!(calls.decide(&key, &rate, u64::MAX).await.retry_after(), None, "nor does a sum that wraps around");
    assert_eq!(calls.get(&key).await, 10);
}

pub(crate) async fn a_changed_rate_applies_at_once_to_the_history(rig: &Rig, kind: Kind) {
    let (calls, key) = (rig.calls(kind), key(kind, "changed"));
    assert_eq!(calls.inc(&key, &rig.rate(10), 10).await, RateLimitDecision::Allowed);
    if kind == Kind::Absolute {
        assert_refused(calls.inc(&key, &rig.rate(10), 1).await, kind);
    }
    let raised = calls.decide(&key, &rig.rate(20), 10).await;
    assert_eq!((raised.verdict(), raised.limit(), raised.used()), (Verdict::Allowed, 20, 20), "raised to 20");
    assert_refused(calls.inc(&key, &rig.rate(20), 1).await, kind);
    let lowered = calls.decide(&key, &rig.rate(5), 1).await;
    assert!(!lowered.is_allowed() && lowered.retry_after().is_some(), "{lowered:?}");
    assert_eq!((lowered.limit(), lowered.used(), lowered.remaining()), (5, 20, 0), "lowered to 5, with 20 used");
    assert_eq!(calls.get(&key).await, 20);
}

pub(crate) async fn any_bytes_are_a_key_of_their_own(rig: &Rig, kind: Kind) {
    let (calls, rate) = (rig.calls(kind), rig.rate(100));
    let huge = vec![b'x'; 1 << 20];
    let mut keys: Vec<&[u8]> = vec![b"", b"a", b"A", b"a ", "\u{e9}\u{1f512}".as_bytes(), "e\u{301}".as_bytes()];
    keys.extend([&b"\0"[..], b"\0\0", b"\xff\xfe", b"{a}", b"a}:api", b"*", b"a\r\nFLUSHALL\r\n", &huge, &huge[1..]]);
    let name = |key: &[u8]| [format!("{kind:?}").as_bytes(), key].concat();
    for (index, key) in (1..).zip(&keys) {
        assert_eq!(calls.inc(&name(key), &rate, index).await, RateLimitDecision::Allowed);
    }
    for (index, key) in (1..).zip(&keys) {
        assert_eq!(calls.get(&name(key)).await, index, "key {:?}", key.escape_ascii().to_string().get(..9));
    }
    assert_eq!(calls.delete(&name(b"")).await, Some(1));
    assert_eq!(calls.get(&name(b"a")).await, 2);
}

pub(crate) async fn a_total_is_set_where_the_comparator_holds(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), key(kind, "set"));
    let steps = [
        (Lt(0), 9, false, 0),
        (Gt(0), 9, false, 0),
        (Ne(0), 9, false, 0),
        (Eq(1), 9, false, 0),
        (Eq(0), 4, true, 4),
        (Gt(4), 9, false, 4),
        (Lt(4), 9, false, 4),
        (Gt(3), 5, true, 5),
        (Lt(6), 6, true, 6),
        (Ne(6), 9, false, 6),
        (Ne(u64::MAX), 7, true, 7),
        (Lt(u64::MAX), 8, true, 8),
        (Gt(u64::MAX), 9, false, 8),
        // No limit is checked.
        (Always, 1_000, true, 1_000),
        (Always, u64::MAX, true, 1 << 39),
        (Always, 9, true, 9),
    ];
    let mut before = 0;
    for (comparator, count, matches, after) in steps {
        let outcome = calls.set_if(&key, &rate, comparator, count, None).await;
        let seen = (outcome.matched, outcome.previous_total, outcome.current_total);
        assert_eq!(seen, (matches, before, after), "{comparator:?} to {count}");
        assert_eq!(calls.get(&key).await, after);
        before = after;
    }
    assert_eq!(calls.inc(&key, &rate, 1).await, RateLimitDecision::Allowed);
    assert_refused(calls.inc(&key, &rate, 1).await, kind);
    // A refusal that was remembered ends with it.
    assert_eq!(calls.set_if(&key, &rate, Always, 0, None).await.current_total, 0);
    if kind == Kind::Absolute {
        assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
    }
    let unknown = self::key(kind, "set to nothing");
    assert!(calls.set_if(&unknown, &rate, Always, 0, None).await.matched);
    assert_eq!(calls.delete(&unknown).await, None, "nothing was set, and the key became known");
}

pub(crate) async fn a_history_is_kept_as_far_as_the_new_total_has_room(rig: &Rig, kind: Kind) {
    let (calls, rate) = (rig.calls(kind), rig.rate(1_000));
    for which in [PreserveNewest, PreserveOldest] {
        let key = key(kind, &format!("{which:?}"));
        assert_eq!(calls.set_if(&key, &rate, Eq(1), 5, Some(which)).await.current_total, 0);
        for cost in [30, 20, 10] {
            assert_eq!(calls.inc(&key, &rate, cost).await, RateLimitDecision::Allowed);
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        for (count, before) in [(60, 60), (35, 60), (35, 35), (90, 35), (1, 90), (0, 1), (7, 0)] {
            let outcome = calls.set_if(&key, &rate, Eq(before), count, Some(which)).await;
            assert_eq!((outcome.matched, outcome.previous_total, outcome.current_total), (true, before, count));
            assert_eq!(calls.get(&key).await, count, "{which:?}");
        }
        assert_eq!(calls.decide(&key, &rate, 3).await.used(), 10);
    }
}

pub(crate) async fn a_deleted_key_is_as_new(rig: &Rig, kind: Kind) {
    let (calls, twin, rate, key) = (rig.calls(kind), rig.twin(kind), rig.rate(10), key(kind, "deleted"));
    assert_eq!(calls.delete(&key).await, None);
    for _ in 0..3 {
        assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
        assert_refused(calls.inc(&key, &rate, 1).await, kind);
        assert_eq!(calls.delete(&key).await, Some(10));
        assert_eq!((calls.get(&key).await, calls.delete(&key).await), (0, None));
    }
    assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
    assert_eq!(twin.delete(&key).await, Some(10), "by another instance");
    assert_eq!(calls.inc(&key, &rate, 10).await, RateLimitDecision::Allowed);
}

pub(crate) async fn clear_forgets_the_keys_of_the_calls_and_no_others(rig: &Rig, kind: Kind) {
    let (calls, rate) = (rig.calls(kind), rig.rate(10));
    let keys: Vec<Vec<u8>> = (0..100).map(|index| key(kind, &format!("clear {index}"))).collect();
    for key in &keys {
        assert_eq!(calls.inc(key, &rate, 10).await, RateLimitDecision::Allowed);
    }
    let name = format!("{kind:?}");
    let budget = super::policies::open(rig, &name, &["10/min"], kind);
    assert!(super::policies::decide(&*budget, b"a layer's", 4).await.is_allowed());
    assert_refused(calls.inc(&keys[7], &rate, 1).await, kind);
    calls.clear().await;
    for key in &keys {
        assert_eq!(calls.get(key).await, 0);
    }
    assert_eq!(calls.inc(&keys[7], &rate, 10).await, RateLimitDecision::Allowed, "a refusal outlived the key");
    assert_eq!(super::policies::decide(&*budget, b"a layer's", 0).await.used(), 4);
}

pub(crate) async fn tasks_and_instances_together_get_exactly_the_limit(rig: &Rig, kind: Kind) {
    let (calls, twin, rate, key) = (rig.calls(kind), rig.twin(kind), rig.rate(100), key(kind, "tasks"));
    let task = async |index: usize| {
        let calls = if index.is_multiple_of(2) { &calls } else { &twin };
        let mut admitted = 0;
        for _ in 0..20 {
            admitted += usize::from(calls.inc(&key, &rate, 1).await.is_allowed());
        }
        admitted
    };
    let admitted: Vec<usize> = join_all((0..10).map(task)).await;
    assert_eq!(admitted.iter().sum::<usize>(), 100, "{admitted:?}");
    assert_eq!((calls.get(&key).await, twin.get(&key).await), (100, 100));
}

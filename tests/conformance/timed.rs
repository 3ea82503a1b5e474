//! Real windows of one second. Clocks are compared with what surely holds: what was answered before an instant was
//! decided before it, and what was sent after it was decided after it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tower_weir::Decision;

use crate::rig::{Calls, Kind, Rig};

/// Clocks count whole milliseconds, and the server's may be slewed against ours.
const BLUR: Duration = Duration::from_millis(2);

struct Asked {
    sent: Instant,
    answered: Instant,
    decision: Decision,
}

async fn ask(calls: &dyn Calls, key: &[u8], rate: &tower_weir::RateLimit, n: u64) -> Asked {
    let sent = Instant::now();
    let decision = calls.decide(key, rate, n).await;
    Asked { sent, answered: Instant::now(), decision }
}

pub(crate) async fn a_refused_request_is_admitted_after_the_wait_that_it_was_told_and_not_before(
    rig: &Rig,
    kind: Kind,
) {
    let (calls, rate) = (rig.calls(kind), rig.rate(10));
    let mut early = 0;
    // In several buckets the wait depends on the cost. In the suppressed strategy what is held and what was declined
    // is demand, which must leave room for the last request.
    let (costs, bursts): (_, &[u64]) = match kind {
        Kind::Absolute => ([1, 10, 4], &[3, 4, 3]),
        Kind::Suppressed => ([1, 2, 2], &[10]),
    };
    'rounds: for (round, cost) in costs.into_iter().enumerate() {
        let key = format!("{kind:?} {round}").into_bytes();
        for units in bursts {
            assert!(calls.decide(&key, &rate, *units).await.is_allowed());
            sleep(Duration::from_millis(30)).await;
        }
        let refusal = ask(&*calls, &key, &rate, cost).await;
        assert!(!refusal.decision.is_allowed(), "{:?}", refusal.decision);
        let wait = refusal.decision.retry_after().unwrap();
        assert!(wait <= Duration::from_secs(1) + rig.blur() && wait > Duration::ZERO, "{wait:?}");
        let (not_before, surely) = (refusal.sent + wait - BLUR, refusal.answered + wait);
        for ahead in [wait / 2, Duration::from_millis(4)] {
            sleep_until((not_before - ahead).into()).await;
            let again = ask(&*calls, &key, &rate, cost).await;
            if again.answered < not_before {
                early += 1;
                assert!(!again.decision.is_allowed(), "admitted {:?} early", not_before - again.answered);
                let free_at = again.answered + again.decision.retry_after().unwrap();
                assert!(free_at + BLUR >= not_before, "the hint has moved forward");
            } else if again.decision.is_allowed() {
                // A busy machine: it was not early, and has taken the room.
                continue 'rounds;
            }
        }
        sleep_until(surely.into()).await;
        let admitted = calls.decide(&key, &rate, cost).await;
        assert!(admitted.is_allowed(), "cost {cost} after {wait:?}: {admitted:?}");
    }
    println!("{early} of 6 requests were early");
}

pub(crate) async fn a_unit_comes_back_after_its_window(rig: &Rig, kind: Kind) {
    let (calls, rate, key) = (rig.calls(kind), rig.rate(10), format!("{kind:?} back").into_bytes());
    let first = ask(&*calls, &key, &rate, 4).await;
    sleep(Duration::from_millis(300)).await;
    let second = ask(&*calls, &key, &rate, 6).await;
    assert!(first.decision.is_allowed() && second.decision.is_allowed());
    assert_eq!(calls.get(&key).await, 10);
    // For a window and one bucket at most, and no less than a window.
    for (asked, left) in [(&first, 6), (&second, 0)] {
        let (held, gone) = (asked.sent + Duration::from_secs(1) - BLUR, asked.answered + Duration::from_millis(1_011));
        sleep_until((held - Duration::from_millis(20)).into()).await;
        let used = calls.get(&key).await;
        assert!(Instant::now() >= held || used > left, "{used} used before the window was over");
        sleep_until(gone.into()).await;
        assert_eq!(calls.get(&key).await, left);
    }
    assert!(calls.decide(&key, &rate, 10).await.is_allowed());
}

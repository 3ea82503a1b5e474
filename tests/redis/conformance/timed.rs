//! Real windows of one second. The tests rely only on the order of events: a request that was answered before an
//! instant was decided before it, and a request that was sent after an instant was decided after it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tower_weir::{Decision, RateLimit};

use super::stores::{Calls, Kind, PATIENCE, Rig};

/// Clocks count whole milliseconds, and the server's may be slewed against ours.
const BLUR: Duration = Duration::from_millis(2);

const WINDOW: Duration = Duration::from_secs(1);

struct Asked {
    sent: Instant,
    answered: Instant,
    decision: Decision,
}

async fn ask(calls: &dyn Calls, key: &[u8], rate: &RateLimit, n: u64) -> Asked {
    let sent = Instant::now();
    let decision = calls.decide(key, rate, n).await;
    Asked { sent, answered: Instant::now(), decision }
}

/// Fills a key and has it refuse; on a busy machine with another key, if the first window may be over by then.
async fn refused(
    calls: &dyn Calls,
    rate: &RateLimit,
    kind: Kind,
    round: usize,
    cost: u64,
    bursts: &[u64],
) -> (Vec<u8>, Asked) {
    let began = Instant::now();
    for attempt in 0.. {
        assert!(began.elapsed() < PATIENCE, "the machine is too busy");
        let (key, sent) = (format!("{kind:?} {round} {attempt}").into_bytes(), Instant::now());
        for units in bursts {
            let is_allowed = calls.decide(&key, rate, *units).await.is_allowed();
            assert!(is_allowed, "{units} units fit");
            sleep(Duration::from_millis(30)).await;
        }
        let refusal = ask(calls, &key, rate, cost).await;
        if refusal.answered < sent + WINDOW - BLUR {
            assert!(!refusal.decision.is_allowed(), "{:?}", refusal.decision);
            return (key, refusal);
        }
    }
    unreachable!()
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
        let (key, refusal) = refused(&*calls, &rate, kind, round, cost, bursts).await;
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
    let (calls, rate) = (rig.calls(kind), rig.rate(10));
    // On a busy machine with another key, until each of the three figures was read in its own time.
    let (mut seen, began) = ([false; 3], Instant::now());
    for attempt in 0.. {
        assert!(began.elapsed() < 2 * PATIENCE, "the machine is too busy: {seen:?}");
        let key = format!("{kind:?} back {attempt}").into_bytes();
        let first = ask(&*calls, &key, &rate, 4).await;
        sleep(Duration::from_millis(300)).await;
        let second = ask(&*calls, &key, &rate, 6).await;
        assert!(first.decision.is_allowed() && second.decision.is_allowed());
        // For a window and one bucket at most, and no less than a window.
        let held = [&first, &second].map(|asked| asked.sent + WINDOW - BLUR);
        let gone = [&first, &second].map(|asked| asked.answered + Duration::from_millis(1_011));
        // Compares the used units with those that must still count, and with those that may still count.
        let mut look = async || {
            let sent = Instant::now();
            let used = calls.get(&key).await;
            let answered = Instant::now();
            let bound = |units: [bool; 2]| 4 * u64::from(units[0]) + 6 * u64::from(units[1]);
            let (least, most) = (bound(held.map(|at| answered < at)), bound(gone.map(|at| sent < at)));
            assert!((least..=most).contains(&used), "{used} used, of {least} to {most}");
            if least == most {
                seen[[10, 6, 0].iter().position(|&units| units == used).unwrap()] = true;
            }
        };
        look().await;
        for at in [held[0] - Duration::from_millis(20), gone[0], held[1] - Duration::from_millis(20), gone[1]] {
            sleep_until(at.into()).await;
            look().await;
        }
        assert!(calls.decide(&key, &rate, 10).await.is_allowed());
        if seen == [true; 3] {
            return;
        }
    }
}

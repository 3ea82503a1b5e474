//! Instances that do not agree on their options, as during a rolling deploy, on one key.

use std::sync::Arc;
use std::time::Duration;

use tower_weir::RateLimiter;

use super::{builder, limiter, rate, redis};
use crate::support::ledger::{Admission, Ledger, now};
use crate::support::servers::{Flavor, Server};

const LIMIT: u64 = 100;

fn buckets(server: &Server, window: u64, bucket_ms: u64) -> RateLimiter {
    builder(redis(server.url()), window).rate_group_size_ms(bucket_ms.try_into().unwrap()).build().unwrap()
}

/// Asks one unit after another until the end. Returns what was admitted and what was refused.
async fn hammer(rl: RateLimiter, per_second: f64, until: u64) -> [Vec<Admission>; 2] {
    let (mut admitted, mut refused) = (Vec::new(), Vec::new());
    while now() < until {
        let sent = now();
        let is_allowed = rl.redis().absolute().inc("k", &rate(per_second), 1).await.unwrap().is_allowed();
        let into = if is_allowed { &mut admitted } else { &mut refused };
        into.push(Admission { sent, received: now(), cost: 1 });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..4))).await;
    }
    [admitted, refused]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_two_sizes_never_admit_too_much_and_keep_the_history() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        // In a window that no busy machine outlasts.
        let (fine, coarse) = (buckets(&server, 60, 10), buckets(&server, 60, 100));
        for (writer, reader) in [(&fine, &coarse), (&coarse, &fine)] {
            let (writes, reads) = (writer.redis().absolute(), reader.redis().absolute());
            let rate = |units: f64| rate(units / 60.0);
            assert!(writes.inc("handed over", &rate(100.0), 100).await.unwrap().is_allowed());
            assert_eq!(reads.get("handed over").await.unwrap(), 100);
            assert!(!reads.inc("handed over", &rate(100.0), 1).await.unwrap().is_allowed(), "the history was reset");
            assert_eq!(reads.delete("handed over").await.unwrap(), Some(100));
            // Writing and reading in turns loses nothing either.
            for used in 1..=40 {
                let calls = if used % 2 == 0 { &writes } else { &reads };
                assert!(calls.inc("in turns", &rate(100.0), 1).await.unwrap().is_allowed());
            }
            assert_eq!(
                (writes.get("in turns").await.unwrap(), reads.delete("in turns").await.unwrap()),
                (40, Some(40))
            );
        }
        let (fine, coarse) = (buckets(&server, 1, 10), buckets(&server, 1, 100));
        let flood = Duration::from_secs(if flavor == Flavor::Debian { 5 } else { 2 });
        let until = now() + u64::try_from(flood.as_nanos()).unwrap();
        let tasks: Vec<_> =
            (0..8).map(|task| tokio::spawn(hammer([&fine, &coarse][task % 2].clone(), 100.0, until))).collect();
        let (mut ledger, mut refusals) = (Ledger::default(), Vec::new());
        for task in tasks {
            let [admitted, refused] = task.await.unwrap();
            ledger.0.extend(admitted);
            refusals.extend(refused);
        }
        let most = ledger.most_within(Duration::from_secs(1));
        // Conversion moves a unit to the end of the larger bucket, in which it is held for one more.
        let in_vain = ledger.refused_in_vain(&refusals, LIMIT, Duration::from_millis(1_201));
        println!(
            "{flavor}: 10 and 100 ms: {} units, at most {most} in a window, {} refusals",
            ledger.units(),
            refusals.len()
        );
        assert!(most <= LIMIT, "{flavor}: {most} of {LIMIT} units in one window");
        assert!(refusals.len() > 100 && ledger.units() > LIMIT, "{flavor}: the limit was met, and served again");
        assert!(in_vain.is_empty(), "{flavor}: {} refusals in vain: {:?}", in_vain.len(), in_vain[0]);
    }
}

/// Each instance holds its own limit against everything that the key was charged within its own window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_two_lengths_look_at_one_history() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let (short, long) = (limiter(redis(server.url()), 1), limiter(redis(server.url()), 3));
        // The key's history is kept for the longer window from the first use of it on.
        assert!(long.redis().absolute().inc("k", &rate(40.0), 1).await.unwrap().is_allowed());
        let until = now() + 4_000_000_000;
        let ask = |rl: &RateLimiter, per_second| tokio::spawn(hammer(rl.clone(), per_second, until));
        let tasks = [(ask(&short, 50.0), 1, 50), (ask(&long, 40.0), 3, 120)];
        let mut all = Vec::new();
        for (task, seconds, limit) in tasks {
            let [admitted, _] = task.await.unwrap();
            all.extend(admitted.into_iter().map(|admission| (admission, seconds, limit)));
        }
        let mut by = [0, 0];
        for &(admission, seconds, limit) in &all {
            let window = seconds * 1_000_000_000;
            // Certainly before it, and within its window.
            let before =
                |other: &Admission| other.received < admission.sent && other.sent + window > admission.received;
            let held: u64 = all.iter().filter(|(other, ..)| before(other)).map(|(other, ..)| other.cost).sum();
            assert!(held + admission.cost <= limit, "{flavor}: one more on {held} of {limit} in {seconds} s");
            by[usize::from(seconds == 3)] += 1;
        }
        println!("{flavor}: {by:?} admitted by 50 in 1 s and 120 in 3 s");
        // Each is served again after its first window; who gets how much is a matter of luck.
        assert!(by[0] > 50 && by[0] + by[1] >= 150, "{flavor}: {by:?}");
    }
}

/// A refusal that one instance remembers does not outlast the window, whatever the other's options are.
#[tokio::test]
async fn a_remembered_refusal_ends_though_the_other_instance_has_other_buckets() {
    let server = Server::start(Flavor::Debian);
    let (fine, coarse) = (Arc::new(buckets(&server, 1, 10)), buckets(&server, 1, 100));
    assert!(coarse.redis().absolute().inc("k", &rate(10.0), 10).await.unwrap().is_allowed());
    let refusal = fine.redis().absolute().inc("k", &rate(10.0), 1).await.unwrap();
    let wait = refusal.retry_after().unwrap();
    assert!(wait <= Duration::from_millis(1_100), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert!(fine.redis().absolute().inc("k", &rate(10.0), 1).await.unwrap().is_allowed());
}

//! Reservations on all stores, each through two instances: no window exceeds the limit, and only what was used stays.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::stores::{Kind, PATIENCE, Rig};
use super::waiting::{DropAfter, LINGERS, on_all};
use crate::support::ledger::{Admission, Ledger, now};

const WINDOW: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_millis(400);

/// Waits until a key has so many units in use.
async fn until_used(rig: &Rig, key: &[u8], units: u64) -> Duration {
    let began = Instant::now();
    loop {
        let used = rig.calls(Kind::Absolute).get(key).await;
        if used == units {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{}: {used} of {units} units in use", rig.name);
        sleep(Duration::from_millis(5)).await;
    }
}

/// Tasks reserve, spend, commit, drop, leak and are late. The judge sees only what was spent, and when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spent_units_never_exceed_the_limit() {
    const CAPACITY: u64 = 60;
    let rigs = Rig::all(1, 1.0);
    on_all(&rigs, |rig| async move {
        let (rate, ledger) = (rig.rate(CAPACITY as u32), Mutex::new(Ledger::default()));
        let end = Instant::now() + Duration::from_secs(4);
        let worker = |worker: u64| {
            let (rate, ledger) = (&rate, &ledger);
            async move {
                let mut random = fastrand::Rng::with_seed(worker);
                let spent = |sent: u64, cost: u64| {
                    let received = now();
                    ledger.lock().unwrap().0.push(Admission { sent, received, cost });
                };
                while Instant::now() < end {
                    // The hybrid store leases units for these.
                    let sent = now();
                    if rig.calls(Kind::Absolute).inc(b"k", rate, 1).await.is_allowed() {
                        spent(sent, 1);
                    }
                    let (n, is_partial) = (random.u64(1..20), random.bool());
                    let mut reserved = rig.reserve(random.bool(), b"k", rate, n, TTL, is_partial).await;
                    assert!(reserved.units() <= n && (is_partial || [0, n].contains(&reserved.units())));
                    for _ in 0..random.u32(0..5) {
                        sleep(Duration::from_millis(random.u64(0..150))).await;
                        let (units, sent) = (random.u64(1..6), now());
                        if reserved.spend(units) {
                            spent(sent, units);
                        }
                    }
                    match random.u32(0..8) {
                        0 => drop(reserved),
                        1 => std::mem::forget(reserved),
                        _ => {
                            let (actual, sent) = (random.u64(0..25), now());
                            let before = reserved.units() - reserved.left();
                            let charged = reserved.commit(actual).await.charged;
                            if charged > before {
                                spent(sent, charged - before);
                            }
                        }
                    }
                    if random.bool() {
                        sleep(Duration::from_millis(random.u64(0..100))).await;
                    }
                }
            }
        };
        join_all((0..6).map(worker)).await;
        let mut ledger = ledger.into_inner().unwrap();
        let (most, all) = (ledger.most_within(WINDOW), ledger.units());
        println!("{}: {all} units, {most} at most in a window", rig.name);
        assert!(most <= CAPACITY, "{}: {most}", rig.name);
        // Leaked and idle reservations hold units, so this is far from what fits.
        assert!(all >= CAPACITY, "{}: {all}", rig.name);
        until_used(rig, b"k", 0).await;
        assert_eq!(rig.reserve(true, b"k", &rate, CAPACITY, TTL, false).await.units(), CAPACITY, "{}", rig.name);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_keeps_refunds_or_raises() {
    let rigs = Rig::all(60, 1.0);
    on_all(&rigs, |rig| async move {
        let (rate, ttl) = (rig.rate(100), Duration::from_secs(60));
        for (actual, charged, is_complete) in
            [(0, 0, true), (40, 40, true), (25, 25, true), (90, 90, true), (130, 40, false)]
        {
            let key = actual.to_string();
            let key = key.as_bytes();
            let reserved = rig.reserve(false, key, &rate, 40, ttl, false).await;
            assert_eq!((reserved.units(), rig.twin(Kind::Absolute).get(key).await), (40, 40), "{}", rig.name);
            let commit = reserved.commit(actual).await;
            assert_eq!((commit.charged, commit.is_complete()), (charged, is_complete), "{}: {actual}", rig.name);
            until_used(rig, key, charged).await;
        }
        let mut dropped = rig.reserve(false, b"dropped", &rate, 40, ttl, false).await;
        assert!(dropped.spend(15));
        drop(dropped);
        until_used(rig, b"dropped", 15).await;
        // As many as fit.
        assert!(rig.calls(Kind::Absolute).inc(b"part", &rate, 70).await.is_allowed());
        assert_eq!(rig.reserve(true, b"part", &rate, 50, ttl, false).await.units(), 0);
        let part = rig.reserve(true, b"part", &rate, 50, ttl, true).await;
        assert_eq!(part.units(), 30, "{}", rig.name);
        assert_eq!(rig.reserve(false, b"part", &rate, 50, ttl, true).await.units(), 0, "{}", rig.name);
        assert_eq!(part.commit(10).await.charged, 10);
        until_used(rig, b"part", 80).await;
    })
    .await;
}

/// The holder lives, and does nothing: the rest is free when the time of the reservation is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_ends_in_time() {
    let rigs = Rig::all(60, 1.0);
    let remote: Vec<Rig> = rigs.into_iter().filter(|rig| !rig.is_local()).collect();
    on_all(&remote, |rig| async move {
        let rate = rig.rate(50);
        let mut reserved = rig.reserve(false, b"k", &rate, 50, TTL, false).await;
        assert!(reserved.spend(20));
        until_used(rig, b"k", 20).await;
        assert!(!reserved.spend(1), "{}", rig.name);
        let commit = reserved.commit(30).await;
        assert_eq!((commit.charged, commit.is_complete()), (30, true), "{}: more is a new request", rig.name);
        until_used(rig, b"k", 30).await;
    })
    .await;
}

/// Units that may still be spent count, also when the window in which they were reserved is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_outlives_the_window() {
    let rigs = Rig::all(1, 1.0);
    let remote: Vec<Rig> = rigs.into_iter().filter(|rig| !rig.is_local()).collect();
    on_all(&remote, |rig| async move {
        let rate = rig.rate(50);
        let mut reserved = rig.reserve(false, b"k", &rate, 50, Duration::from_secs(60), false).await;
        sleep(WINDOW + WINDOW / 2).await;
        assert!(!rig.twin(Kind::Absolute).inc(b"k", &rate, 1).await.is_allowed(), "{}", rig.name);
        assert!(reserved.spend(50), "{}", rig.name);
        assert_eq!(reserved.commit(50).await.charged, 50);
        until_used(rig, b"k", 0).await;
    })
    .await;
}

/// Drops a reservation or its commit after the n-th poll, for every n. Nothing stays for longer than the time of the
/// reservation and a window, and what was spent stays for a window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_lose_and_leak_nothing() {
    let rigs = Rig::all(1, 1.0);
    on_all(&rigs, |rig| async move {
        let rate = rig.rate(50);
        for linger in LINGERS {
            let mut is_done = false;
            for polls in 0..12 {
                if is_done {
                    break;
                }
                let key = format!("reserve{polls}{linger:?}");
                let call = Box::pin(rig.reserve(polls % 2 == 0, key.as_bytes(), &rate, 50, TTL, false));
                let (reserved, _) = DropAfter::new(call, polls, linger).await;
                is_done = reserved.is_some();
                drop(reserved);
                let took = until_used(rig, key.as_bytes(), 0).await;
                assert!(took < PATIENCE, "{}", rig.name);
            }
            assert!(is_done, "{}", rig.name);
            is_done = false;
            for polls in 0..12 {
                if is_done {
                    break;
                }
                let key = format!("commit{polls}{linger:?}");
                let mut reserved = rig.reserve(false, key.as_bytes(), &rate, 50, TTL, false).await;
                let sent = Instant::now();
                assert!(reserved.spend(20));
                let (commit, _) = DropAfter::new(Box::pin(reserved.commit(20)), polls, linger).await;
                is_done = commit.is_some();
                let used = rig.calls(Kind::Absolute).get(key.as_bytes()).await;
                assert!(used >= 20 || sent.elapsed() > WINDOW, "{}: {used} of 20 spent units", rig.name);
                until_used(rig, key.as_bytes(), 0).await;
            }
            assert!(is_done, "{}", rig.name);
        }
    })
    .await;
}

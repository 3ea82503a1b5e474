use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{Breaker, Closed, pause};

const PATIENCE: Duration = Duration::from_secs(60);

fn open(breaker: &Arc<Breaker>) -> super::ProbeTicket {
    (0..100).find_map(|_| breaker.on_failure()).expect("it was closed")
}

#[test]
fn it_opens_only_after_failures_in_a_row() {
    let breaker = Breaker::new(3, PATIENCE);
    for _ in 0..10 {
        assert!(breaker.on_failure().is_none());
        assert!(breaker.on_failure().is_none());
        assert_eq!(breaker.on_success(), None);
        assert!(breaker.allows());
    }
    assert!(breaker.on_failure().is_none());
    assert!(breaker.on_failure().is_none());
    let opened = breaker.on_failure().expect("the third in a row");
    assert!(opened.is_transition());
    assert!(!breaker.allows());
    assert!(breaker.on_failure().is_none(), "it opens once");
    assert!(breaker.on_failure().is_none(), "it opens once");
    assert_eq!(breaker.on_success(), None, "a late reply does not close the breaker");
    assert!(!breaker.allows());
}

#[test]
fn a_certain_failure_opens_at_once() {
    let breaker = Breaker::new(Breaker::DEFAULT_THRESHOLD, PATIENCE);
    let _opened = open(&breaker);
    assert!(!breaker.allows());
}

#[test]
fn one_of_many_threads_gets_the_probe_ticket() {
    for _ in 0..200 {
        let breaker = Breaker::new(2, PATIENCE);
        let (start, duties) = (Barrier::new(4), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    if let Some(opened) = breaker.on_failure() {
                        duties.fetch_add(1, Ordering::Relaxed);
                        std::mem::forget(opened);
                    }
                });
            }
        });
        assert_eq!(duties.into_inner(), 1);
        assert!(!breaker.allows());
    }
}

/// Without the half-open state, a breaker whose probe died with its runtime would never close.
#[test]
fn after_a_lost_probe_the_next_caller_probes() {
    let breaker = Breaker::new(5, PATIENCE);
    drop(open(&breaker));
    assert!(breaker.allows());
    let again = breaker.on_failure().expect("one failure is enough in doubt");
    assert!(!again.is_transition(), "the open breaker was logged already");
    assert!(!breaker.allows());
    drop(again);
    assert_eq!(breaker.on_success(), Some(Closed));
    assert_eq!(breaker.on_success(), None, "it closes once");
    assert!(breaker.allows());
}

/// A runtime may stall forever without a shutdown.
#[test]
fn after_a_silent_probe_the_next_caller_probes() {
    let breaker = Breaker::new(1, Duration::ZERO);
    let still = open(&breaker);
    std::thread::sleep(Duration::from_millis(2));
    assert!(breaker.allows());
    let again = breaker.on_failure().expect("one failure is enough in doubt");
    assert!(!again.is_transition(), "the open breaker was logged already");
    drop(again);
    assert_eq!(breaker.on_success(), Some(Closed));
    drop(still);
    assert!(breaker.allows());
    assert_eq!(breaker.on_success(), None, "it closes once, and the abandoned probe changes no state");
}

#[test]
fn pauses_grow_to_a_second_and_are_never_zero() {
    let pauses: Vec<_> = (0..8).map(|attempt| pause(attempt, 0.0).as_millis()).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    assert_eq!(pause(u32::MAX, 0.0), Duration::from_secs(1));
    assert_eq!(pause(5, 0.999_999).as_millis(), 500);
}

#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn the_probe_closes_it_within_a_second_of_the_return() {
    let start = tokio::time::Instant::now();
    let breaker = Breaker::new(1, PATIENCE);
    let outage = Duration::from_secs(7);
    let mut probes = 0;
    let closed = open(&breaker)
        .probe(|| {
            probes += 1;
            assert!(!breaker.allows());
            let is_up = start.elapsed() >= outage;
            async move { is_up }
        })
        .await;
    assert_eq!(closed, Some(Closed));
    assert!(breaker.allows());
    assert_eq!(breaker.on_success(), None, "it closes once");
    let late = start.elapsed() - outage;
    assert!(late <= Duration::from_secs(1), "closed {late:?} after the return");
    assert!((10..=25).contains(&probes), "{probes} probes");
}

/// The pause runs during a probe: after a probe that fails in 900 ms, the next one starts at once.
#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn a_slow_probe_does_not_delay_the_recovery_twice() {
    let breaker = Breaker::new(1, PATIENCE);
    let mut starts = Vec::new();
    let closed = open(&breaker)
        .probe(|| {
            starts.push(tokio::time::Instant::now());
            let is_up = starts.len() > 10;
            async move {
                tokio::time::sleep(Duration::from_millis(900)).await;
                is_up
            }
        })
        .await;
    assert_eq!(closed, Some(Closed));
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_millis(1001)));
}

#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn the_loop_ends_with_its_owner() {
    let breaker = Breaker::new(1, PATIENCE);
    let opened = open(&breaker);
    let task = tokio::spawn(opened.probe(|| async { false }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!task.is_finished());
    drop(breaker);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(task.is_finished());
    assert_eq!(task.await.unwrap(), None);
}

#[cfg(feature = "redis-tokio")]
#[test]
fn a_runtime_shutdown_ends_the_probe_and_not_the_breaker() {
    let breaker = Breaker::new(1, PATIENCE);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let opened = open(&breaker);
    runtime.spawn(opened.probe(std::future::pending));
    drop(runtime);
    assert!(breaker.allows());
    assert_eq!(breaker.on_success(), Some(Closed));
}

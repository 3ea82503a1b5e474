//! One lookup for all concurrent requests of a key, whatever happens to the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use tokio::sync::Barrier;
use tokio::task::yield_now;

use super::source::*;
use crate::key::RequestView;
use crate::layer::quota_lookup::slot::Answer;
use crate::layer::quota_lookup::{Found, QuotaLookup};
use crate::telemetry::{Notice, is_spent};

#[test]
fn concurrent_requests_of_a_key_share_one_lookup() {
    let source = Source::new(Does::Hang);
    let (lookup, _) = source.lookup();
    let mut requests: Vec<_> = (0..100).map(|_| waiting(&lookup, "a")).collect();
    assert!(requests.iter_mut().all(|request| poll(request).is_none()));
    source.now_does(Does::Return(7));
    assert!(requests.iter_mut().all(|request| poll(request) == Some(found(7))));
    assert_eq!((source.calls(), source.running()), (1, 0));
    assert_eq!(answer(&lookup, "b"), found(7));
    assert_eq!(source.calls(), 2, "another key has its own lookup");
}

/// Tasks on several threads. The source is quick, so that starts, ends and waits meet in many orders.
///
/// In every second round, half of the tasks drop their request. One more request then keeps the lookup alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_share_one_lookup_of_a_key() {
    const TASKS: usize = 16;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let lookup = QuotaLookup::new(move |_| {
        let call = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            for _ in 0..call % 4 {
                yield_now().await;
            }
            Ok::<_, &str>(quotas(7))
        }
    });
    for round in 1..=300 {
        let drops = round % 2 == 0;
        let kept = drops.then(|| find(&lookup, &round.to_string()));
        let barrier = Arc::new(Barrier::new(TASKS));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (lookup, barrier) = (lookup.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    match find(&lookup, &round.to_string()) {
                        Found::Ready(answer) => Some(answer),
                        // Before or after the first poll.
                        Found::Pending(_) if drops && task % 4 == 0 => None,
                        Found::Pending(mut waiter) if drops && task % 4 == 1 => poll(&mut waiter),
                        Found::Pending(waiter) => Some(waiter.await),
                    }
                })
            })
            .collect();
        for task in tasks {
            assert!(in_time(task).await.unwrap().is_none_or(|answer| answer == found(7)));
        }
        drop(kept);
        assert_eq!(calls.load(Ordering::SeqCst), round);
    }
}

#[test]
fn a_waiting_request_continues_the_lookup_of_a_dropped_one() {
    let source = Source::new(Does::Hang);
    let (lookup, _) = source.lookup();
    let (mut first, mut second) = (waiting(&lookup, "a"), waiting(&lookup, "a"));
    let woken = Woken::new();
    assert!(poll(&mut first).is_none());
    assert!(poll_with(&mut second, &woken.waker()).is_none());
    drop(first);
    source.now_does(Does::Return(7));
    assert!(woken.count() > 0);
    assert_eq!(poll(&mut second), Some(found(7)));
    assert_eq!(source.calls(), 1);
}

/// The client hangs up after its request was woken, and before it polls.
#[test]
fn a_request_that_is_dropped_after_its_wake_up_delays_no_other() {
    let source = Source::new(Does::Hang);
    let (lookup, _) = source.lookup();
    let mut requests: Vec<_> = (0..5).map(|_| waiting(&lookup, "a")).collect();
    let woken: Vec<_> = requests.iter().map(|_| Woken::new()).collect();
    for (request, woken) in requests.iter_mut().zip(&woken) {
        assert!(poll_with(request, &woken.waker()).is_none());
    }
    source.now_does(Does::Return(7));
    let mut last = requests.pop().unwrap();
    drop(requests);
    assert!(woken[4].count() > 0);
    assert_eq!(poll(&mut last), Some(found(7)));
}

#[test]
fn a_lookup_ends_with_its_last_request() {
    let source = Source::new(Does::Hang);
    let (lookup, _) = source.lookup();
    let mut requests: Vec<_> = (0..3).map(|_| waiting(&lookup, "a")).collect();
    requests.iter_mut().for_each(|request| assert!(poll(request).is_none()));
    while let Some(request) = requests.pop() {
        assert_eq!(source.running(), 1);
        drop(request);
    }
    assert_eq!(source.running(), 0, "the future is dropped");
    source.now_does(Does::Return(7));
    assert_eq!((answer(&lookup, "a"), source.calls()), (found(7), 2));
}

#[test]
fn a_request_that_never_polls_delays_no_other() {
    let source = Source::new(Does::Return(7));
    let (lookup, _) = source.lookup();
    let _idle = waiting(&lookup, "a");
    assert_eq!(poll(&mut waiting(&lookup, "a")), Some(found(7)));
    assert_eq!((at_once(&lookup, "a"), source.calls()), (Some(found(7)), 1));
}

#[test]
fn a_panic_is_a_failure_and_the_key_recovers() {
    for does in [Does::Panic, Does::PanicInTheCall] {
        let source = Source::new(if does == Does::PanicInTheCall { does } else { Does::Hang });
        let (lookup, clock) = source.lookup();
        let (mut first, mut second) = (waiting(&lookup, "a"), None);
        if does != Does::PanicInTheCall {
            second = Some(waiting(&lookup, "a"));
            assert!(poll(&mut first).is_none());
        }
        source.now_does(does);
        assert_eq!(poll(&mut first), Some(FAILED), "{does:?}");
        assert!(second.is_none_or(|mut second| poll(&mut second) == Some(FAILED)), "{does:?}");
        assert_eq!((at_once(&lookup, "a"), source.running()), (Some(FAILED), 0), "{does:?}");
        source.now_does(Does::Return(7));
        clock.advance(PAUSE);
        assert_eq!(answer(&lookup, "a"), found(7), "{does:?}");
    }
}

/// A request begins while the function of another runs. With one thread, the function is that request.
#[test]
fn the_function_is_called_without_a_lock() {
    let inner: Arc<std::sync::OnceLock<QuotaLookup>> = Arc::default();
    let (reference, calls) = (Arc::clone(&inner), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&calls);
    let lookup = QuotaLookup::new(move |request: &RequestView<'_>| {
        assert_eq!(counter.fetch_add(1, Ordering::SeqCst), 0, "the lookup of this key runs already");
        let Found::Pending(mut waiter) = reference.get().unwrap().find(request, b"a") else { panic!("no lookup runs") };
        assert_eq!(poll(&mut waiter), None::<Answer>);
        async { Ok::<_, &str>(quotas(7)) }
    });
    assert!(inner.set(lookup.clone()).is_ok());
    let Found::Pending(mut waiter) = lookup.find(&RequestView::new(&Request::new(())), b"a") else { panic!() };
    assert_eq!((poll(&mut waiter), calls.load(Ordering::SeqCst)), (Some(found(7)), 1));
}

#[tokio::test]
async fn a_lookup_that_hangs_fails_at_its_deadline() {
    for does in [Does::Hang, Does::PanicInTheDrop] {
        let source = Source::new(does);
        let (mut lookup, clock) = source.lookup();
        lookup.deadline = Duration::from_millis(20);
        let (first, second) = (waiting(&lookup, "a"), waiting(&lookup, "a"));
        assert_eq!((in_time(first).await, in_time(second).await), (FAILED, FAILED), "{does:?}");
        assert_eq!((source.calls(), source.running()), (1, 0), "{does:?}");
        source.now_does(Does::Return(7));
        clock.advance(PAUSE);
        assert_eq!(answer(&lookup, "a"), found(7), "{does:?}");
    }
}

#[test]
fn a_failure_is_logged() {
    let (lookup, _) = Source::new(Does::Fail).lookup();
    assert_eq!(answer(&lookup, "a"), FAILED);
    assert!(is_spent(Notice::QuotaLookupFailed));
}

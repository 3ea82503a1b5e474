//! Wake-ups of the tasks that wait for one future.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::source::{Woken, in_time, poll, poll_with};
use crate::layer::quota_lookup::flight::{Flight, Waiter};

/// The future is woken while task A polls it. Task B polls too, finds it busy and waits. Then A is dropped.
///
/// `Shared` of futures-util 0.3.34 leaves B asleep.
#[test]
fn a_wake_up_during_a_poll_reaches_the_task_that_found_the_future_busy() {
    let flight = Arc::new(Flight::new());
    let (mut a, b) = (Waiter::new(Arc::clone(&flight)), Arc::new(Mutex::new(Waiter::new(Arc::clone(&flight)))));
    let (woken, other) = (Woken::new(), Arc::clone(&b));
    let (waker, polls) = (woken.waker(), Mutex::new(Cell::new(0)));
    flight.start(poll_fn(move |cx| {
        let polls = polls.lock().unwrap();
        polls.set(polls.get() + 1);
        if polls.get() == 2 {
            return Poll::Ready(7);
        }
        cx.waker().wake_by_ref();
        assert_eq!(poll_with(&mut other.lock().unwrap(), &waker), None, "the future is busy");
        Poll::Pending
    }));
    assert_eq!(poll(&mut a), None);
    drop(a);
    assert_eq!(woken.count(), 1);
    assert_eq!(poll(&mut b.lock().unwrap()), Some(7));
}

#[test]
fn waiters_that_came_before_the_start_are_woken() {
    for is_started in [true, false] {
        let flight = Arc::new(Flight::new());
        let (mut waiter, woken) = (Waiter::new(Arc::clone(&flight)), Woken::new());
        assert_eq!(poll_with(&mut waiter, &woken.waker()), None);
        if is_started {
            flight.start(async { 7 });
        } else {
            flight.end(7);
        }
        assert_eq!((woken.count(), poll(&mut waiter)), (1, Some(7)));
        assert_eq!(poll(&mut Waiter::new(flight)), Some(7), "late waiters get the output too");
    }
}

/// A source holds the waker of a future that it never wakes. That must not keep the future.
#[test]
fn a_waker_does_not_keep_the_future() {
    let (alive, flight) = (Arc::new(()), Arc::new(Flight::new()));
    let (inside, kept) = (Arc::clone(&alive), Arc::new(Mutex::new(None)));
    let keep = Arc::clone(&kept);
    flight.start(poll_fn(move |cx: &mut Context<'_>| {
        let _ = &inside;
        *keep.lock().unwrap() = Some(cx.waker().clone());
        Poll::<u64>::Pending
    }));
    let mut waiter = Waiter::new(flight);
    assert_eq!(poll(&mut waiter), None);
    drop(waiter);
    assert!(kept.lock().unwrap().is_some());
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_dropped_waiter_leaves_no_waker() {
    let flight = Arc::new(Flight::<u64>::new());
    let woken = Woken::new();
    let mut waiter = Waiter::new(Arc::clone(&flight));
    assert_eq!(poll_with(&mut waiter, &woken.waker()), None);
    drop(waiter);
    flight.end(7);
    assert_eq!(woken.count(), 0);
}

/// An async block that waits for another future works as well as a hand-written one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_several_threads_get_the_output() {
    for round in 0..200_u64 {
        let flight = Arc::new(Flight::new());
        let (send, receive) = tokio::sync::oneshot::channel();
        let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(Waiter::new(Arc::clone(&flight)))).collect();
        flight.start(async move {
            let mut receive = pin!(receive);
            tokio::task::yield_now().await;
            (&mut receive).await.unwrap()
        });
        // Some tasks end at any moment, perhaps while they poll for the others.
        tasks.iter().take(4).for_each(tokio::task::JoinHandle::abort);
        tokio::spawn(async move { send.send(round).unwrap() });
        drop(flight);
        for task in tasks.into_iter().skip(4) {
            assert_eq!(in_time(task).await.unwrap(), round);
        }
    }
}

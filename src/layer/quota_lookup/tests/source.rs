//! A source of quotas that the tests control, and a lookup that asks it.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::Request;

use crate::key::RequestView;
use crate::layer::quota_lookup::flight::Waiter;
use crate::layer::quota_lookup::slot::{Answer, LookupFailed};
use crate::layer::quota_lookup::{Found, QuotaLookup};
use crate::time::{ManualClock, TimeSource};
use crate::{Quota, Quotas};

pub(super) const TTL: Duration = Duration::from_secs(60);
pub(super) const PAUSE: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const FAILED: Answer = Err(LookupFailed);

/// What the source does with a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Return(u64),
    Fail,
    Panic,
    PanicInTheCall,
    /// No result until it does something else.
    Hang,
    /// The same, and a panic if the future is dropped.
    PanicInTheDrop,
}

/// A source; its clones are the same one.
#[derive(Clone)]
pub(super) struct Source(Arc<Shared>);

struct Shared {
    does: Mutex<Does>,
    wakers: Mutex<Vec<Waker>>,
    calls: AtomicUsize,
    polls: AtomicUsize,
    /// Futures that exist.
    running: AtomicUsize,
}

/// Counts one future of the source.
struct Running(Source);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::SeqCst);
        let panics = *self.0.0.does.lock().unwrap() == Does::PanicInTheDrop;
        assert!(!panics || std::thread::panicking(), "a panic of a test in a drop");
    }
}

impl Source {
    pub(super) fn new(does: Does) -> Self {
        let count = || AtomicUsize::new(0);
        let (does, wakers) = (Mutex::new(does), Mutex::default());
        Self(Arc::new(Shared { does, wakers, calls: count(), polls: count(), running: count() }))
    }

    pub(super) fn now_does(&self, does: Does) {
        *self.0.does.lock().unwrap() = does;
        mem::take(&mut *self.0.wakers.lock().unwrap()).into_iter().for_each(Waker::wake);
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(super) fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    pub(super) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    fn call(&self) -> impl Future<Output = Result<Quotas, &'static str>> + Send + use<> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        assert!(*self.0.does.lock().unwrap() != Does::PanicInTheCall, "a panic of a test in the call");
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.clone());
        poll_fn(move |cx| {
            let shared = &running.0.0;
            shared.polls.fetch_add(1, Ordering::SeqCst);
            let does = *shared.does.lock().unwrap();
            match does {
                Does::Return(count) => Poll::Ready(Ok(quotas(count))),
                Does::Fail => Poll::Ready(Err("a secret key")),
                Does::Panic | Does::PanicInTheCall => panic!("a panic of a test"),
                Does::Hang | Does::PanicInTheDrop => {
                    shared.wakers.lock().unwrap().push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// A lookup in this source, with a clock that moves only in the test.
    pub(super) fn lookup(&self) -> (QuotaLookup, ManualClock) {
        let (source, clock) = (self.clone(), ManualClock::new());
        clock.advance(Duration::from_secs(1_000_000));
        let lookup = QuotaLookup::new(move |_| source.call()).cached(1_000, TTL);
        (lookup.clock(TimeSource::custom(Arc::new(clock.clone()))), clock)
    }
}

pub(super) fn quotas(count: u64) -> Quotas {
    Quota::per_minute(count).unwrap().into()
}

pub(super) fn found(count: u64) -> Answer {
    Ok(quotas(count))
}

pub(super) fn find(lookup: &QuotaLookup, key: &str) -> Found {
    lookup.find(&RequestView::new(&Request::new(())), key.as_bytes())
}

/// Begins a request that must wait.
pub(super) fn waiting(lookup: &QuotaLookup, key: &str) -> Waiter<Answer> {
    match find(lookup, key) {
        Found::Pending(waiter) => waiter,
        Found::Ready(answer) => panic!("the request does not wait: {answer:?}"),
    }
}

/// The answer to a request that needs no wait, also not for its own lookup.
pub(super) fn at_once(lookup: &QuotaLookup, key: &str) -> Option<Answer> {
    match find(lookup, key) {
        Found::Ready(answer) => Some(answer),
        Found::Pending(_) => None,
    }
}

/// The answer to a request, of which the source needs no time.
pub(super) fn answer(lookup: &QuotaLookup, key: &str) -> Answer {
    match find(lookup, key) {
        Found::Ready(answer) => answer,
        Found::Pending(mut waiter) => poll(&mut waiter).expect("the source needs no time"),
    }
}

pub(super) fn poll<T: Clone>(waiter: &mut Waiter<T>) -> Option<T> {
    poll_with(waiter, Waker::noop())
}

pub(super) fn poll_with<T: Clone>(waiter: &mut Waiter<T>, waker: &Waker) -> Option<T> {
    match Pin::new(waiter).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Waits for a future that needs a moment. The limit is generous, so that it ends a test only if something hangs.
pub(super) async fn in_time<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(TTL, future).await.expect("the future ends")
}

/// Counts the calls of a waker.
pub(super) struct Woken(Arc<AtomicUsize>);

struct Counter(Arc<AtomicUsize>);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn waker(&self) -> Waker {
        Arc::new(Counter(Arc::clone(&self.0))).into()
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

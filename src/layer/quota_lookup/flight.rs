//! One future that several tasks wait for.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that runs once for all its waiters. Each waiter can drive it, so it continues if any of them is dropped.
///
/// The future is dropped with its last waiter. It must not panic.
///
/// `futures_util`'s `Shared` does the same, but loses a wake-up if the task that polls is dropped at the wrong moment.
pub(super) struct Flight<T> {
    /// `None` before the start and after the end. Locked during a poll, and never waited for.
    future: Mutex<Option<Running<T>>>,
    output: OnceLock<T>,
    /// Apart from the future, which holds them through its waker: otherwise, neither could be dropped.
    wakers: Arc<Wakers>,
    waiters: AtomicU64,
}

/// The wakers of the waiting tasks.
#[derive(Default)]
struct Wakers {
    by_waiter: Mutex<BTreeMap<u64, Waker>>,
    /// Set if the future was woken since its latest poll began.
    is_woken: AtomicBool,
}

impl<T> Flight<T> {
    /// Creates a flight without a future. Its waiters wait for [`start`](Self::start) or [`end`](Self::end).
    pub(super) fn new() -> Self {
        let wakers = Arc::new(Wakers::default());
        Self { future: Mutex::new(None), output: OnceLock::new(), wakers, waiters: AtomicU64::new(0) }
    }

    pub(super) fn start(&self, future: impl Future<Output = T> + Send + 'static) {
        *lock(&self.future) = Some(Box::pin(future));
        self.wakers.wake_all();
    }

    pub(super) fn end(&self, output: T) {
        let _ = self.output.set(output);
        self.wakers.wake_all();
    }

    /// Polls the future unless another task is polling it.
    fn drive(&self) {
        let mut future = match self.future.try_lock() {
            Ok(future) => future,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(running) = future.as_mut() else { return };
        self.wakers.is_woken.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.wakers));
        match running.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                let ended = future.take();
                drop(future);
                self.end(output);
                // Last, and without a lock, because foreign code runs.
                drop(ended);
            }
            Poll::Pending => {
                drop(future);
                // A task that was woken during this poll may have found the lock taken. It has to poll again, because
                // the task of this poll may be dropped before it does.
                if self.wakers.is_woken.load(Ordering::SeqCst) {
                    self.wakers.wake_all();
                }
            }
        }
    }
}

impl Wakers {
    /// Wakes all tasks, because the one that was chosen might never poll again.
    fn wake_all(&self) {
        let wakers = mem::take(&mut *lock(&self.by_waiter));
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.wake_all();
    }
}

/// A request that waits for a [`Flight`].
pub(in crate::layer) struct Waiter<T> {
    flight: Arc<Flight<T>>,
    number: u64,
}

impl<T> Waiter<T> {
    pub(super) fn new(flight: Arc<Flight<T>>) -> Self {
        let number = flight.waiters.fetch_add(1, Ordering::Relaxed);
        Self { flight, number }
    }
}

impl<T: Clone> Future for Waiter<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let flight = &*self.flight;
        if flight.output.get().is_none() {
            // Before the poll, so that no wake-up is lost in between.
            let replaced = lock(&flight.wakers.by_waiter).insert(self.number, cx.waker().clone());
            drop(replaced);
            flight.drive();
        }
        flight.output.get().cloned().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let removed = lock(&self.flight.wakers.by_waiter).remove(&self.number);
        drop(removed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

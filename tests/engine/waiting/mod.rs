//! Calls that wait for units of a local store.
#![allow(clippy::unwrap_used)]

mod calls;
mod model;
mod real_time;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tower_weir::time::Clock;
use tower_weir::{RateLimit, RateLimitDecision, RateLimiter, RateLimiterBuilder, StoreError, WindowSizeSeconds};

/// The units in a window.
const CAPACITY: u64 = 6;

fn builder(clock: impl Clock) -> RateLimiterBuilder {
    RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).clock(clock)
}

fn rate(units: u64) -> RateLimit {
    RateLimit::try_from(units as f64).unwrap()
}

type Outcome = Result<RateLimitDecision, StoreError>;

/// Set when a task is woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A call that is polled only if it was woken, as by a runtime. So a lost wake-up shows as a call that never ends.
struct Task {
    call: Pin<Box<dyn Future<Output = Outcome>>>,
    flag: Arc<Flag>,
}

impl Task {
    fn new(rl: &RateLimiter, key: &'static str, units: u64, rate: RateLimit, max_wait: Duration) -> Self {
        let rl = rl.clone();
        let call = async move { rl.local().absolute().until_allowed(key, &rate, units, max_wait).await };
        Self { call: Box::pin(call), flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    /// Polls the call if it was woken.
    fn run(&mut self) -> Option<Outcome> {
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        match self.call.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&self.flag)))) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}

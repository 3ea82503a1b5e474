//! Timers, threads, and calls without a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tower_weir::time::Clock;
use tower_weir::{ManualClock, RateLimiter, WindowSizeSeconds};

use super::{CAPACITY, builder, rate};

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime; also returns the number of polls.
fn block_on<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = Box::pin(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut polls = 0;
    loop {
        polls += 1;
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return (output, polls),
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_call_waits_without_a_runtime() {
    let rl = RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1).unwrap()).build().unwrap();
    let (calls, rate) = (rl.local().absolute(), rate(CAPACITY));
    assert!(calls.inc("k", &rate, CAPACITY).is_allowed());
    let began = Instant::now();
    let (outcome, polls) = block_on(calls.until_allowed("k", &rate, 1, Duration::from_secs(60)));
    assert!(outcome.unwrap().is_allowed() && began.elapsed() >= Duration::from_millis(900));
    assert!(polls < 10, "{polls} polls for one wait");
}

/// The timer counts real time, and fires early by a slow clock: the call then sleeps again.
#[test]
fn a_timer_that_fires_early_is_set_again() {
    struct Slow(Instant);
    impl Clock for Slow {
        fn now_ms(&self) -> u64 {
            u64::try_from(self.0.elapsed().as_millis()).unwrap() * 3 / 4
        }
    }
    let rl = builder(Slow(Instant::now())).build().unwrap();
    let (calls, rate) = (rl.local().absolute(), rate(CAPACITY));
    assert!(calls.inc("k", &rate, CAPACITY).is_allowed());
    // The first call has its turn after one window, and the other one after two.
    let first = calls.until_allowed("k", &rate, CAPACITY, Duration::from_secs(60));
    let second = calls.until_allowed("k", &rate, CAPACITY, Duration::from_millis(2_500));
    let ((first, second), polls) = block_on(futures_util::future::join(first, second));
    assert!(first.unwrap().is_allowed());
    assert!(second.unwrap().is_allowed(), "its time was not over");
    assert!((3..100).contains(&polls), "{polls} polls");
}

/// Threads wait for, drop and take units of one key while its clock moves.
#[test]
fn threads_are_charged_what_they_are_admitted_and_all_have_their_turn() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 200;
    let clock = ManualClock::new();
    // Nothing leaves the window, so the units that are charged show in the end.
    let rl = RateLimiter::builder()
        .window_size_seconds(WindowSizeSeconds::try_from(1_000_000).unwrap())
        .rate_group_size_ms(1_000.try_into().unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    let short = builder(clock.clone()).build().unwrap();
    let (admitted, running) = (AtomicUsize::new(0), AtomicUsize::new(THREADS as usize));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (rl, short, admitted, running) = (&rl, &short, &admitted, &running);
            scope.spawn(move || {
                let (narrow, wide) = (rate(CAPACITY), rate(1));
                for call in 0..CALLS {
                    let units = 1 + (thread + call) % 3;
                    let max_wait = Duration::from_secs(100_000);
                    let mut wait = Box::pin(short.local().absolute().until_allowed("k", &narrow, units, max_wait));
                    let is_dropped =
                        call % 4 == 3 && wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
                    if is_dropped {
                        drop(wait);
                    } else if call % 4 != 3 {
                        assert!(block_on(wait).0.unwrap().is_allowed());
                    }
                    // The same from a limit that always has room, where each admission is counted.
                    let (outcome, _) = block_on(rl.local().absolute().until_allowed("k", &wide, units, max_wait));
                    assert!(outcome.unwrap().is_allowed());
                    admitted.fetch_add(usize::try_from(units).unwrap(), Ordering::SeqCst);
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            clock.advance(Duration::from_millis(10));
            thread::yield_now();
        }
    });
    assert_eq!(rl.local().absolute().get("k"), admitted.into_inner() as u64);
    assert!(short.local().absolute().get("k") <= CAPACITY);
}

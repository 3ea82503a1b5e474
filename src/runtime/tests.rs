use std::future::{pending, ready};
use std::time::Duration;

use futures_util::FutureExt;

use super::{Elapsed, check, sleep, spawn, timeout};

#[cfg(not(feature = "redis-smol"))]
#[test]
fn outside_a_runtime_everything_fails_and_nothing_panics() {
    use super::NoRuntime;

    assert_eq!(check(), Err(NoRuntime::ABSENT));
    assert_eq!(spawn(async {}), Err(NoRuntime::ABSENT));
    assert!(sleep(Duration::ZERO).is_err());
    assert!(timeout(Duration::ZERO, ready(())).is_err());
    assert!(NoRuntime::ABSENT.to_string().contains("redis-smol"));
}

#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn on_tokio() {
    let start = tokio::time::Instant::now();
    sleep(Duration::from_secs(3)).unwrap().await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    the_basics().await;
}

#[cfg(feature = "redis-smol")]
#[test]
fn on_smol_without_starting_it() {
    smol::block_on(the_basics());
}

async fn the_basics() {
    check().unwrap();
    let (told, heard) = tokio::sync::oneshot::channel();
    spawn(async move { told.send(7).unwrap() }).unwrap();
    assert_eq!(heard.await, Ok(7));
    sleep(Duration::from_millis(1)).unwrap().await;
    assert_eq!(timeout(Duration::from_millis(1), pending::<()>()).unwrap().await, Err(Elapsed));
    assert_eq!(timeout(Duration::ZERO, ready(7)).unwrap().now_or_never(), Some(Ok(7)));
}

/// The timer and the socket of the reply become ready together; the task that reads the socket runs later.
#[cfg(feature = "redis-tokio")]
#[tokio::test]
async fn a_reply_that_arrived_while_the_runtime_stalled_counts() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let waiting = tokio::spawn(async { timeout(Duration::from_millis(20), told).unwrap().await });
    let until_stalled = tokio::time::Instant::now() + Duration::from_millis(40);
    tokio::spawn(async move {
        // The task of the connection wakes after the timer.
        tokio::time::sleep_until(until_stalled).await;
        tokio::task::yield_now().await;
        tell.send(7).unwrap();
    });
    tokio::task::yield_now().await;
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(waiting.await.unwrap(), Ok(Ok(7)));
}

/// The counterpart: a reply that never arrives ends in a timeout.
#[cfg(feature = "redis-tokio")]
#[tokio::test]
async fn a_missing_reply_ends_after_the_grace() {
    let waiting = tokio::spawn(async { timeout(Duration::from_millis(20), pending::<()>()).unwrap().await });
    tokio::task::yield_now().await;
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(waiting.await.unwrap(), Err(Elapsed));
}

/// Paused time advances to the next timer as soon as all tasks wait, even for a socket.
#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn paused_time_does_not_end_a_round_trip() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        tell.send(7).unwrap();
    });
    assert_eq!(timeout(Duration::from_secs(5), told).unwrap().await, Ok(Ok(7)));
}

#[cfg(feature = "redis-tokio")]
#[test]
fn a_runtime_without_timers_is_an_error_and_no_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            assert_eq!(sleep(Duration::ZERO).err(), Some(super::NoRuntime::WITHOUT_TIMERS));
        }
    });
}

/// The runtime drops its tasks one after the other, and each of them can already detect the shutdown.
#[cfg(feature = "redis-tokio")]
#[test]
fn a_runtime_that_is_shut_down_is_known_to_be_over_before_its_tasks_are_dropped() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Carrier;

    struct Asks(Carrier, Arc<AtomicU32>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.1.fetch_add(u32::from(self.0.is_over()), Ordering::Relaxed);
        }
    }
    let still = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for runtime in [still, many] {
        let knew = Arc::new(AtomicU32::new(0));
        let carrier = runtime.block_on(async {
            for _ in 0..10 {
                let asks = Asks(Carrier::here(), Arc::clone(&knew));
                spawn(async move {
                    let _asks = asks;
                    pending::<()>().await;
                })
                .unwrap();
            }
            tokio::task::yield_now().await;
            Carrier::here()
        });
        assert!(!carrier.is_over());
        drop(runtime);
        assert!(carrier.is_over());
        assert_eq!(knew.load(Ordering::Relaxed), 10);
    }
}

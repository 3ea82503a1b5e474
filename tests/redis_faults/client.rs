//! What is the client's affair and not Redis's: cut connections, runtimes that stall, end, or lack timers.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime, RuntimeFlavor};
use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, StoreErrorKind};

use crate::support::servers::{Flavor, Server};

fn limiter(server: &Server, deadline: Duration) -> RateLimiter {
    let redis = RedisOptions::url(server.url()).deadline(deadline).on_store_error(OnStoreError::Reject).instances(1);
    RateLimiter::builder().redis(redis).build().unwrap()
}

fn rate() -> RateLimit {
    RateLimit::try_from(1_000.0).unwrap()
}

fn runtimes() -> [Runtime; 2] {
    let many = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    [Builder::new_current_thread().enable_all().build().unwrap(), many]
}

/// A server's `timeout`, a proxy's, a restart: the next request must not pay for it.
#[test]
fn a_connection_that_was_cut_while_idle_costs_no_request() {
    let server = Server::start(Flavor::Debian);
    for runtime in runtimes() {
        for protocol in ["resp2", "resp3"] {
            let redis = RedisOptions::url(format!("{}?protocol={protocol}", server.url()));
            let redis = redis.deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject).instances(1);
            let limiter = RateLimiter::builder().redis(redis).build().unwrap();
            for round in 0..10 {
                let decision = runtime.block_on(limiter.redis().absolute().inc("key", &rate(), 1));
                assert!(decision.is_ok(), "{protocol} {round}: {decision:?}");
                // While this thread waits, a runtime of one thread cannot see the end.
                std::thread::sleep(Duration::from_millis(25));
                match round % 5 {
                    4 => server.restart(),
                    _ => drop(server.cli(&["CLIENT", "KILL", "TYPE", "normal"])),
                }
                std::thread::sleep(Duration::from_millis(5));
                // A busy machine may let the worker see the end later than that.
                if runtime.handle().runtime_flavor() == RuntimeFlavor::MultiThread {
                    let worker = runtime.spawn(async { tokio::time::sleep(Duration::from_millis(1)).await });
                    runtime.block_on(worker).unwrap();
                }
            }
        }
    }
}

/// On a runtime of one thread a task that computes stops everything; the answer lies in the socket afterwards.
///
/// A busy machine may keep the thread from reading it within the grace, but not again and again.
#[test]
fn a_stall_of_the_client_is_not_taken_for_one_of_redis() {
    let server = Server::start(Flavor::Debian);
    let limiter = limiter(&server, Duration::from_millis(100));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while limiter.redis().absolute().inc("key", &rate(), 1).await.is_err() {}
        let mut answered = 0;
        for _ in 0..5 {
            let stall = tokio::spawn(async {
                tokio::task::yield_now().await;
                // Far beyond the deadline, so that a server on a busy machine has answered by then.
                std::thread::sleep(Duration::from_millis(600));
            });
            answered += u32::from(limiter.redis().absolute().inc("key", &rate(), 1).await.is_ok());
            stall.await.unwrap();
        }
        assert!(answered >= 2, "{answered} of 5");
    });
}

/// Paused time jumps as soon as all tasks wait, and a deadline must not end with it.
#[tokio::test(start_paused = true)]
async fn paused_time_ends_no_decision() {
    let server = Server::start(Flavor::Debian);
    let limiter = limiter(&server, Duration::from_millis(500));
    for round in 0..20 {
        let decision = limiter.redis().absolute().inc("key", &rate(), 1).await;
        assert!(decision.is_ok(), "{round}: {decision:?}");
    }
}

#[test]
fn a_runtime_without_timers_or_sockets_is_an_error_and_no_panic() {
    let server = Server::start(Flavor::Debian);
    let limiter = limiter(&server, Duration::from_millis(500));
    let without_timers = Builder::new_current_thread().enable_io().build().unwrap();
    let without_sockets = Builder::new_current_thread().enable_time().build().unwrap();
    for runtime in [without_timers, without_sockets] {
        for _ in 0..3 {
            let error = runtime.block_on(limiter.redis().absolute().inc("key", &rate(), 1)).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert!(error.to_string().contains("enable_all()"), "{error}");
        }
    }
}

/// As in a suite of tests: a limiter in a static, and a runtime for each test.
///
/// A call that was under way on the connection of a runtime that ended may have run, so it is not sent again. It fails
/// for that reason alone, and no breaker opens for it.
#[test]
fn the_end_of_a_runtime_is_not_taken_for_one_of_redis() {
    let server = Server::start(Flavor::Debian);
    let limiter = limiter(&server, Duration::from_secs(1));
    let worker = || {
        let mut failures = Vec::new();
        for _ in 0..40 {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            for _ in 0..5 {
                let decision = runtime.block_on(limiter.redis().absolute().inc("key", &rate(), 1));
                failures.extend(decision.err().map(|error| error.to_string()));
            }
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{} of 800 calls lost their connection with its runtime", failures.len());
    // The thread whose runtime drives the connection may get no processor for as long as the deadline.
    let (late, others): (Vec<_>, Vec<_>) =
        failures.iter().filter(|text| !text.contains("runtime")).partition(|text| text.contains("in time"));
    assert!(others.is_empty(), "{} others, as {:?}", others.len(), others.first());
    assert!(late.len() <= 8, "{} of 800 calls were late", late.len());
}

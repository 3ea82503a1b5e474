//! Units that an instance holds, and how they come back.

use std::time::Duration;

use futures_util::FutureExt;

use crate::support::ledger::now;
use crate::support::servers::{Flavor, Server, SlowProxy, wait_until};
use crate::{borrow, builder, held, limiter, rate, redis, scripts, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_gives_back_what_was_not_spent() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let (leaving, other) = (limiter(&server, 60, 50), limiter(&server, 60, 50));
        let rate = rate(10.0);
        spend(&leaving, "k", rate, 20).await;
        let lent = held(&other, "k").await - 20;
        assert!(lent > 0, "{flavor}: nothing is held");
        // The twin: without it what is held is missing elsewhere.
        assert!(!other.hybrid().absolute().inc("k", &rate, 580).await.unwrap().is_allowed(), "{flavor}");
        leaving.hybrid().shutdown().await;
        assert_eq!(held(&other, "k").await, 20, "{flavor}: {lent} were held");
        // It goes on, and holds nothing any more.
        spend(&leaving, "k", rate, 20).await;
        assert_eq!(held(&other, "k").await, 40, "{flavor}");
        assert!(!other.hybrid().absolute().inc("k", &rate, 561).await.unwrap().is_allowed(), "{flavor}");
        assert!(other.hybrid().absolute().inc("k", &rate, 560).await.unwrap().is_allowed(), "{flavor}");
        assert!(!leaving.hybrid().absolute().inc("k", &rate, 1).await.unwrap().is_allowed(), "{flavor}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_last_handle_the_syncing_ends() {
    let server = Server::start(Flavor::Debian);
    let connected = || server.info("clients")["connected_clients"].parse::<u64>().unwrap();
    let before = connected();
    let rl = limiter(&server, 60, 50);
    borrow(&rl, "k", rate(40.0 / 60.0)).await;
    let calls = scripts(&server);
    let handle = rl.clone();
    drop(rl);
    tokio::task::block_in_place(|| wait_until("what is held goes back", || scripts(&server) > calls));
    // The task has work again, and no handle is left.
    borrow(&handle, "another", rate(40.0 / 60.0)).await;
    drop(handle);
    tokio::task::block_in_place(|| wait_until("the connections are closed", || connected() == before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_rate_counts_at_once() {
    let server = Server::start(Flavor::Debian);
    let (one, other) = (limiter(&server, 60, 50), limiter(&server, 60, 50));
    let per_minute = |units: f64| rate(units / 60.0);
    spend(&one, "k", per_minute(600.0), 20).await;
    assert!(held(&other, "k").await > 20, "a lease is held");
    let calls = one.hybrid().absolute();
    let lower = calls.decide("k", &per_minute(20.0), 1).await.unwrap();
    assert!(!lower.is_allowed() && lower.limit() == 20, "{lower:?}");
    spend(&one, "k", per_minute(1_200.0), 1).await;
    // What another holds under the old rate it may spend, for as long as it holds it.
    spend(&other, "k", per_minute(600.0), 10).await;
    let lent = held(&one, "k").await;
    assert!(lent > 31, "a lease is held");
    assert!(!calls.inc("k", &per_minute(31.0), 1).await.unwrap().is_allowed());
    other.hybrid().shutdown().await;
    one.hybrid().shutdown().await;
    assert_eq!(held(&one, "k").await, 31);
    spend(&one, "k", per_minute(32.0), 1).await;
    assert!(!calls.inc("k", &per_minute(32.0), 1).await.unwrap().is_allowed());
}

/// The task that gives back what is held ends with its runtime. The next call that asks Redis starts another one.
#[test]
fn what_is_held_goes_back_after_its_runtime_is_dropped() {
    let server = Server::start(Flavor::Debian);
    let (one, other) = (limiter(&server, 60, 50), limiter(&server, 60, 50));
    let rate = rate(40.0 / 60.0);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let spent = first.block_on(borrow(&one, "k", rate));
    drop(first);
    runtime().block_on(async {
        let began = now();
        // The connection ended with the runtime, too.
        while one.hybrid().absolute().inc("another", &rate, 1).await.is_err() {
            assert!(now() - began < 30_000_000_000, "Redis does not decide");
        }
        while held(&other, "k").await > spent {
            assert!(now() - began < 30_000_000_000, "what is held does not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Its units have left the window by then, and others may have spent them.
#[test]
fn a_lease_that_has_ended_is_not_spent() {
    let server = Server::start(Flavor::Debian);
    let (one, other) = (limiter(&server, 1, 500), limiter(&server, 1, 500));
    let rate = rate(40.0);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (still, lively) = (runtime(), runtime());
    still.block_on(borrow(&one, "k", rate));
    // It stands still, so that nothing is given back. A lease lives for two intervals.
    std::thread::sleep(Duration::from_millis(2_100));
    lively.block_on(spend(&other, "k", rate, 40));
    let late = still.block_on(one.hybrid().absolute().decide("k", &rate, 1)).unwrap();
    assert!(!late.is_allowed(), "{late:?}");
}

/// Whoever waits for as long as a refusal says is admitted, if nobody else comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_tells_a_wait_that_is_long_enough() {
    let server = Server::start(Flavor::Debian);
    let (one, other) = (limiter(&server, 1, 50), limiter(&server, 1, 50));
    let rate = rate(40.0);
    for round in 0..3 {
        let key = format!("round {round}");
        spend(&one, &key, rate, 20 + round).await;
        for (rl, cost) in [(&other, 40), (&one, 30), (&other, 1)] {
            let mut decision = rl.hybrid().absolute().decide(&key, &rate, cost).await.unwrap();
            while decision.is_allowed() {
                decision = rl.hybrid().absolute().decide(&key, &rate, cost).await.unwrap();
            }
            let wait = decision.retry_after().unwrap();
            assert!(wait > Duration::ZERO && wait < Duration::from_millis(1_600), "{decision:?}");
            tokio::time::sleep(wait).await;
            let decision = rl.hybrid().absolute().decide(&key, &rate, cost).await.unwrap();
            assert!(decision.is_allowed(), "round {round}, {cost} units after {wait:?}: {decision:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_see_what_the_others_have_used() {
    let server = Server::start(Flavor::Debian);
    let (one, other) = (limiter(&server, 60, 50), limiter(&server, 60, 50));
    let rate = rate(1.0);
    spend(&one, "k", rate, 30).await;
    // It gives back what it holds before it says.
    assert_eq!(one.hybrid().absolute().get("k").await.unwrap(), 30);
    assert_eq!(other.hybrid().absolute().get("k").await.unwrap(), 30);
    assert!(!other.hybrid().absolute().inc("k", &rate, 31).await.unwrap().is_allowed());
    assert!(other.hybrid().absolute().inc("k", &rate, 30).await.unwrap().is_allowed());
    assert!(!one.hybrid().absolute().inc("k", &rate, 1).await.unwrap().is_allowed());
    assert_eq!(one.hybrid().absolute().get("k").await.unwrap(), 60);
    assert_eq!(one.hybrid().absolute().delete("k").await.unwrap(), Some(60));
    assert_eq!(other.hybrid().absolute().get("k").await.unwrap(), 0);
}

/// Callers that go away while their request is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_dropped_leave_nothing_behind() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    let rl = builder(redis(proxy.url()), 60, 50).build().unwrap();
    let other = limiter(&server, 60, 50);
    let rate = rate(10.0);
    spend(&rl, "k", rate, 1).await;
    proxy.delay(Duration::ZERO, Duration::from_millis(10));
    let (mut asked, mut admitted) = (1, 1);
    for round in 0..40 {
        // Each lease is given up at once, so that there is something under way.
        rl.hybrid().absolute().get("k").await.unwrap();
        let requests: Vec<_> = (0..4)
            .map(|_| {
                let rl = rl.clone();
                tokio::spawn(async move { rl.hybrid().absolute().inc("k", &rate, 1).await.unwrap().is_allowed() })
            })
            .collect();
        asked += 4;
        tokio::time::sleep(Duration::from_millis(round % 8)).await;
        for (index, request) in requests.into_iter().enumerate() {
            match index % 2 {
                0 => request.abort(),
                _ => admitted += u64::from(request.await.unwrap()),
            }
        }
    }
    proxy.heal();
    rl.hybrid().shutdown().await;
    // A sync that nobody waits for still ends, and gives back what it was lent.
    let (began, mut used) = (now(), held(&other, "k").await);
    while used > asked && now() - began < 30_000_000_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        used = held(&other, "k").await;
    }
    println!("{asked} asked, {admitted} told that they are admitted, {used} used");
    assert!((admitted..=asked).contains(&used), "{used} used, of {asked} asked and {admitted} admitted");
    // The key is not taken for one that is being settled for ever: it has leases again.
    let rl = builder(redis(proxy.url()), 60, 50).build().unwrap();
    spend(&rl, "k", rate, 4).await;
    for _ in 0..20 {
        // Given up at once, as good as always before it is answered.
        let _ = rl.hybrid().absolute().get("k").now_or_never();
        spend(&rl, "k", rate, 2).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    spend(&rl, "k", rate, 2).await;
    server.reset_stats();
    spend(&rl, "k", rate, 10).await;
    assert!(scripts(&server) < 10, "each request asks Redis");
}

//! A refusal costs the server nothing to write, and a flood of them next to nothing at all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tower_weir::{OnStoreError, RateLimiter, RedisOptions};

use super::{limiter, rate, redis};
use crate::support::servers::{Flavor, Server, SlowProxy, wait_until};

/// What the harness asks by itself, and what a refusal may cause.
const READS: [&str; 12] = [
    "eval",
    "evalsha",
    "get",
    "getrange",
    "time",
    "dump",
    "pexpiretime",
    "info",
    "ping",
    "replconf",
    "config|resetstat",
    "config",
];

fn offset(server: &Server) -> String {
    server.info("replication")["master_repl_offset"].clone()
}

/// As users have it: the instance keeps its share of the limit, and says that it is there.
fn options(server: &Server) -> RedisOptions {
    redis(server.url()).on_store_error(OnStoreError::LocalShare)
}

async fn refused(rl: &RateLimiter, key: &str, times: usize) {
    let (rate, calls) = (rate(10.0), rl.redis().absolute());
    for _ in 0..times {
        let decision = calls.decide(key, &rate, 1).await.unwrap();
        let wait = decision.retry_after().unwrap();
        assert!(!decision.is_allowed() && !decision.is_local_share(), "{decision:?}");
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(60_010), "{wait:?}");
    }
}

/// Fills the key, and waits until what goes on beside the decisions is over.
async fn fill(rl: &RateLimiter, server: &Server, key: &str) {
    let admitted = rl.redis().absolute().inc(key, &rate(10.0), 600).await.unwrap();
    assert!(admitted.is_allowed());
    wait_until("the instance has said that it is there", || server.cli(&["EXISTS", "weir:instances"]) == "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_writes_nothing_and_replicates_nothing() {
    for flavor in Flavor::available() {
        // Otherwise the master pings its replicas every ten seconds.
        let server = Server::start_with(flavor, &["--repl-ping-replica-period", "3600"]);
        let replica = Server::start(flavor);
        replica.replica_of(&server);
        let rl = limiter(options(&server).deny_cache(false), 60);
        fill(&rl, &server, "k").await;
        replica.catch_up(&server);
        let name = server.cli(&["KEYS", "weir:1:*"]);
        let state = || {
            let expires = server.try_cli(&["PEXPIRETIME", &name]).unwrap_or_else(|_| "6.2 cannot tell".to_owned());
            (server.call(&["DUMP", &name]).unwrap(), expires, offset(&server))
        };
        let before = state();
        assert_ne!(before.2, "0", "a replica is attached");
        server.reset_stats();
        join_all((0..20).map(|_| refused(&rl, "k", 25))).await;
        let calls = rl.redis().absolute();
        for _ in 0..20 {
            assert!(!calls.is_allowed("k", &rate(10.0)).await.unwrap().is_allowed());
            assert!(!calls.inc("k", &rate(10.0), u64::MAX).await.unwrap().is_allowed());
            assert_eq!(calls.get("k").await.unwrap(), 600);
            assert!(!calls.inc("unknown", &rate(10.0), 601).await.unwrap().is_allowed());
        }
        let stats = server.commandstats();
        assert_eq!(state(), before, "{flavor}: a refusal has changed the key or was replicated");
        let writes: Vec<_> = stats.keys().filter(|name| !READS.contains(&name.as_str())).collect();
        assert!(writes.is_empty(), "{flavor}: {writes:?}");
        assert!(stats["getrange"] > 20 && stats["evalsha"] > 20, "{flavor}: the flood came through: {stats:?}");
        println!("{flavor}: 500 refusals and 80 looks: {stats:?}");
        // The twin: an admission shows in all of these.
        server.reset_stats();
        assert!(calls.inc("k", &rate(11.0), 1).await.unwrap().is_allowed());
        let (after, stats) = (state(), server.commandstats());
        assert!(after.0 != before.0 && after.2 != before.2, "{flavor}: {stats:?}");
        assert!(stats.contains_key("set") || stats.contains_key("setrange"), "{flavor}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_a_key_over_its_limit_hardly_reaches_the_server() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = Arc::new(limiter(options(&server), 60));
        fill(&rl, &server, "k").await;
        refused(&rl, "k", 1).await;
        server.reset_stats();
        join_all((0..100).map(|_| refused(&rl, "k", 100))).await;
        let scripts = |server: &Server| {
            let stats = server.commandstats();
            ["eval", "evalsha"].map(|name| stats.get(name).copied().unwrap_or(0)).iter().sum::<u64>()
        };
        assert_eq!(scripts(&server), 0, "{flavor}: the refusal is known");
        // An instance that does not know the key yet, asked by many at once.
        let rl = Arc::new(limiter(options(&server), 60));
        let tasks = (0..64).map(|_| {
            let rl = Arc::clone(&rl);
            tokio::spawn(async move { refused(&rl, "k", 157).await })
        });
        join_all(tasks).await.into_iter().for_each(Result::unwrap);
        let calls = scripts(&server);
        println!("{flavor}: 10 048 requests of 64 tasks on a key over its limit: {calls} script calls");
        assert!(calls <= 20, "{flavor}: {calls} calls");
        // The twin: another key is still asked about, and served.
        assert!(rl.redis().absolute().inc("another", &rate(10.0), 600).await.unwrap().is_allowed());
        assert!(scripts(&server) > calls);
    }
}

/// The server carries out what it was told, whoever has stopped to wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_with_a_change_that_nobody_waits_for() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    let rl = limiter(redis(proxy.url()), 60);
    let calls = rl.redis().absolute();
    // The server knows the script from then on.
    calls.delete("another").await.unwrap();
    for is_cleared in [false, true] {
        assert!(calls.inc("k", &rate(10.0), 600).await.unwrap().is_allowed());
        refused(&rl, "k", 2).await;
        proxy.hold_replies();
        let patience = Duration::from_millis(100);
        let waited = match is_cleared {
            false => tokio::time::timeout(patience, calls.delete("k")).await.is_ok(),
            true => tokio::time::timeout(patience, calls.clear()).await.is_ok(),
        };
        assert!(!waited);
        proxy.heal();
        if is_cleared {
            // It had come to the first step, which only looks.
            server.cli(&["FLUSHALL"]);
        }
        assert!(calls.inc("k", &rate(10.0), 1).await.unwrap().is_allowed(), "cleared: {is_cleared}");
        calls.delete("k").await.unwrap();
    }
}

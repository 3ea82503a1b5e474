//! The calls that requests with several limits take, and values that no script wrote.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tower_weir::store::{Budget, Policy, Store, Strategy};
use tower_weir::{HardLimitFactor, OnStoreError, RedisOptions};

use super::{decide, limiter, open, part, patient, policy, used};
use crate::support::servers::{Cluster, Flavor, Server};

fn script_calls(servers: &[Server]) -> u64 {
    let of = |server: &Server| {
        let stats = server.commandstats();
        ["evalsha", "eval"].map(|command| stats.get(command).copied().unwrap_or(0)).iter().sum::<u64>()
    };
    servers.iter().map(of).sum()
}

#[tokio::test]
async fn one_script_call_decides_a_request() {
    let servers = [Server::start(Flavor::Debian)];
    let rl = limiter(patient(RedisOptions::url(servers[0].url()).deny_cache(false)));
    let (client, all) = (open(&rl, "client", "30/h"), open(&rl, "all", "1000/h"));
    let strategy = Strategy::Suppressed(HardLimitFactor::default());
    let route = rl.redis().open(&policy("route", &["500/h", "100/min"], strategy)).unwrap();
    let ask = async || decide(&[part(&client, "alice", 1), part(&route, "/", 1), part(&all, "", 1)]).await;
    assert!(ask().await.is_allowed());
    servers[0].reset_stats();
    let mut admitted = 1;
    for _ in 0..50 {
        admitted += u64::from(ask().await.is_allowed());
    }
    assert_eq!((admitted, script_calls(&servers)), (30, 50));
}

#[tokio::test]
async fn a_cluster_decides_in_one_call_if_the_keys_share_a_slot() {
    let cluster = Cluster::start(Flavor::Debian, 3);
    let rl = limiter(patient(RedisOptions::cluster(cluster.urls()).deny_cache(false)));
    let (second, hour) = (open(&rl, "second", "1000/s"), open(&rl, "hour", "40/h"));
    for (other, each) in [("alice", 1..=1), ("bob", 2..=3)] {
        for round in 0..=20 {
            if round == 1 {
                cluster.nodes().iter().for_each(Server::reset_stats);
            }
            assert!(decide(&[part(&second, "alice", 1), part(&hour, other, 1)]).await.is_allowed());
        }
        let calls = script_calls(cluster.nodes());
        assert!((20 * each.start()..=20 * each.end()).contains(&calls), "{other}: {calls} calls");
    }
}

#[tokio::test]
async fn concurrent_requests_share_calls() {
    let servers = [Server::start(Flavor::Debian)];
    let rl = limiter(patient(RedisOptions::url(servers[0].url())));
    let (client, all) = (open(&rl, "client", "1000/h"), open(&rl, "all", "1000/h"));
    let ask = async |client: &Arc<dyn Budget>| decide(&[part(client, "alice", 1), part(&all, "", 1)]).await;
    assert!(ask(&client).await.is_allowed());
    servers[0].reset_stats();
    let decisions = join_all((0..300).map(|_| ask(&client))).await;
    assert!(decisions.iter().all(tower_weir::store::Decisions::is_allowed));
    assert_eq!((used(&client, "alice").await, used(&all, "").await), (301, 301));
    let calls = script_calls(&servers);
    assert!(calls < 100, "{calls} calls for 300 requests");
}

/// Its figures are at most 50 ms old, and the wait is over when it is.
#[tokio::test]
async fn a_refusal_is_repeated_without_a_call_for_a_short_time() {
    let servers = [Server::start(Flavor::Debian)];
    let rl = limiter(patient(RedisOptions::url(servers[0].url())));
    let (client, all) = (open(&rl, "client", "1/s"), open(&rl, "all", "100/h"));
    let parts = [part(&all, "", 1), part(&client, "alice", 1)];
    assert!(decide(&parts).await.is_allowed());
    servers[0].reset_stats();
    let (began, mut refused) = (Instant::now(), 0_u64);
    loop {
        let decisions = decide(&parts).await;
        if decisions.is_allowed() {
            break;
        }
        refused += 1;
        let [all, client] = [0, 1].map(|index| *decisions.get(index).unwrap());
        assert!(all.is_allowed() && all.used() == 1 && all.limit() == 100, "{all:?}");
        assert!(!client.is_allowed() && client.retry_after().unwrap() <= Duration::from_millis(1_010), "{client:?}");
    }
    // In the last moments of the wait, a refusal stands for less than 50 ms.
    let (calls, most) = (script_calls(&servers), began.elapsed().as_millis() as u64 / 50 + 20);
    assert!(calls <= most, "{calls} calls for {refused} refusals, and at most {most}");
    assert!(refused > calls, "{refused} refusals, {calls} calls");
    assert_eq!(used(&all, "").await, 2);
}

#[tokio::test]
async fn two_limits_of_one_name_are_charged_together_too() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(patient(RedisOptions::url(server.url()).deny_cache(false)));
    let (small, large) = (open(&rl, "same", "3/h"), open(&rl, "same", "5/min"));
    let ask = async || decide(&[part(&small, "alice", 1), part(&large, "bob", 1)]).await.is_allowed();
    let mut admitted = 0;
    for _ in 0..6 {
        admitted += u64::from(ask().await);
    }
    assert_eq!((admitted, used(&small, "alice").await), (3, 3));
    settles(&large, "bob", 3).await;
}

/// Waits until a key has so many units in use; refunds take a moment.
async fn settles(budget: &Arc<dyn Budget>, key: &str, units: u64) {
    let began = Instant::now();
    while used(budget, key).await != units {
        assert!(began.elapsed() < Duration::from_secs(20), "{} units, not {units}", used(budget, key).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Replaces the value of a limit's only key by one of another type.
fn spoil(server: &Server, limit: &str) {
    let name = server.cli(&["KEYS", &format!("*:{limit}")]);
    server.cli(&["DEL", &name]);
    server.cli(&["LPUSH", &name, "x"]);
}

#[tokio::test]
async fn a_value_of_another_type_is_a_failure_of_its_limit() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(patient(RedisOptions::url(server.url()).deny_cache(false)));
    let (a, b) = (open(&rl, "a", "10/h"), open(&rl, "b", "10/h"));
    let both = [part(&a, "k", 1), part(&b, "k", 1)];
    assert!(decide(&both).await.is_allowed());
    spoil(&server, "a");
    let failed = decide(&both).await;
    assert!(failed.is_unavailable() && failed.get(0).is_none(), "{failed:?}");
    assert_eq!((failed.get(1).unwrap().used(), used(&b, "k").await), (1, 1), "nothing is charged");
    for part_of_a in [both[0].admitted_on_error(true), both[0].enforced(false)] {
        let before = used(&b, "k").await;
        let decisions = decide(&[part_of_a, both[1]]).await;
        assert!(decisions.is_allowed() && decisions.get(0).is_none(), "{decisions:?}");
        assert_eq!(used(&b, "k").await, before + 1);
    }
}

/// The share of a limit decides for it. If the share refuses, the other limit gets its units back.
#[tokio::test]
async fn a_share_stands_in_for_a_value_of_another_type() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(patient(RedisOptions::url(server.url()).instances(1).deny_cache(false)));
    let with_share = |name: &str, quota: &str| {
        let policy = Policy::new(name, vec![quota.parse().unwrap()], Strategy::Absolute);
        rl.redis().open(&policy.with_on_store_error(OnStoreError::LocalShare)).unwrap()
    };
    let (a, b) = (with_share("a", "3/h"), with_share("b", "10/h"));
    let both = [part(&b, "k", 1), part(&a, "k", 1)];
    assert!(decide(&both).await.is_allowed());
    spoil(&server, "a");
    for _ in 0..2 {
        let decisions = decide(&both).await;
        assert!(decisions.is_allowed() && decisions.get(1).unwrap().is_local_share(), "{decisions:?}");
    }
    for _ in 0..3 {
        let refused = decide(&both).await;
        assert!(!refused.is_allowed() && !refused.is_unavailable(), "{refused:?}");
    }
    settles(&b, "k", 3).await;
}

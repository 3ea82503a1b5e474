//! Decisions that go to the server together are those that would have been made one after another.

use futures_util::future::join_all;
use tower_weir::{Decision, StoreError, StoreErrorKind};

use super::{limiter, rate, redis};
use crate::support::servers::{Cluster, Flavor, Server};

const LIMIT: u64 = 500;

/// The admissions in the order in which they were made, which is that of what was used after each.
fn assert_is_a_sequence(decisions: &[(u64, Decision)]) -> u64 {
    let mut admitted: Vec<_> = decisions.iter().filter(|(_, decision)| decision.is_allowed()).collect();
    admitted.sort_by_key(|(_, decision)| decision.used());
    let used = admitted.iter().fold(0, |before, (cost, decision)| {
        assert_eq!(decision.used(), before + cost, "each is charged as a whole, after the ones before it");
        before + cost
    });
    assert!(used <= LIMIT, "{used} of {LIMIT}");
    for (cost, refused) in decisions.iter().filter(|(_, decision)| !decision.is_allowed()) {
        assert!(refused.used() + cost > LIMIT, "{cost} did fit: {refused:?}");
        let stood = admitted.iter().any(|(_, decision)| decision.used() == refused.used());
        assert!(stood, "{refused:?} was refused at a total at which nobody stood");
        assert!(refused.retry_after().is_some(), "{refused:?}");
    }
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_that_travel_together_are_decided_one_by_one() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = limiter(redis(server.url()), 60);
        let (mut calls, mut refused) = (0, 0);
        for round in 0..20 {
            let mut random = fastrand::Rng::with_seed(round);
            let (key, rate) = (format!("round {round}"), rate(LIMIT as f64 / 60.0));
            server.reset_stats();
            let asked = (0..64).map(|_| {
                let (cost, rl, key) = (random.u64(1..=32), rl.clone(), key.clone());
                async move { (cost, rl.redis().absolute().decide(&key, &rate, cost).await.unwrap()) }
            });
            // In one task, so that they are all there before the first answer is.
            let decisions = tokio::spawn(join_all(asked.collect::<Vec<_>>())).await.unwrap();
            let stats = server.commandstats();
            calls += ["eval", "evalsha"].map(|name| stats.get(name).copied().unwrap_or(0)).iter().sum::<u64>();
            let used = assert_is_a_sequence(&decisions);
            assert_eq!(rl.redis().absolute().get(&key).await.unwrap(), used);
            // The twin: nothing that would have fitted in the end was turned away.
            let least = decisions.iter().filter(|(_, decision)| !decision.is_allowed()).map(|(cost, _)| *cost).min();
            assert!(least.is_none_or(|least| used + least > LIMIT), "{used} used, and {least:?} refused");
            refused += decisions.iter().filter(|(_, decision)| !decision.is_allowed()).count();
        }
        println!("{flavor}: 20 x 64 decisions on one key, {refused} refused, in {calls} script calls");
        assert!(refused > 20, "the limit was met");
        assert!(calls < 20 * 64 / 2, "{flavor}: {calls} calls for {} decisions", 20 * 64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_travel_together_and_each_gets_its_own_answer() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = limiter(redis(server.url()), 60);
        // More than fit one call; each key with a cost of its own, some above its limit.
        let asked = (0..500_u64).map(|index| {
            let rl = rl.clone();
            tokio::spawn(async move {
                let (key, rate) = ((index / 2).to_string(), rate(100.0 / 60.0));
                (index, rl.redis().absolute().decide(&key, &rate, index / 2).await.unwrap())
            })
        });
        let mut used = [0_u64; 250];
        for (index, decision) in join_all(asked).await.into_iter().map(Result::unwrap) {
            let (key, cost) = ((index / 2) as usize, index / 2);
            if decision.is_allowed() {
                used[key] += cost;
            } else {
                assert!(cost > 50, "{cost} twice fits 100: {decision:?}");
            }
        }
        for (key, used) in used.into_iter().enumerate() {
            let cost = key as u64;
            let expected = if 2 * cost <= 100 {
                2 * cost
            } else if cost <= 100 {
                cost
            } else {
                0
            };
            assert_eq!(used, expected, "{flavor}: key {key}");
            assert_eq!(rl.redis().absolute().get(key.to_string()).await.unwrap(), used);
        }
    }
}

/// Else a hot key would hold up everybody else on that server for as long as all of its asks take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_does_not_take_the_asks_of_a_whole_crowd() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(redis(server.url()), 60);
    server.reset_stats();
    let asked = (0..4_000).map(|_| {
        let rl = rl.clone();
        // In one task, so that the crowd is there before the first answer is.
        async move { rl.redis().absolute().decide("key", &rate(50.0), 1).await.unwrap() }
    });
    let decisions = tokio::spawn(join_all(asked)).await.unwrap();
    assert_eq!(decisions.iter().filter(|decision| decision.is_allowed()).count(), 3_000);
    let stats = server.commandstats();
    let calls = ["eval", "evalsha"].map(|name| stats.get(name).copied().unwrap_or(0)).iter().sum::<u64>();
    assert!(calls >= 15, "4000 asks in {calls} calls");
}

/// The key of another program is its own affair: the keys that travel with it are decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_another_type_is_an_error_of_its_key_that_names_the_fix() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = limiter(redis(server.url()), 60);
        assert!(rl.redis().absolute().inc("bad", &rate(1.0), 1).await.unwrap().is_allowed());
        let name = server.cli(&["KEYS", "weir:1:*"]);
        server.cli(&["DEL", &name]);
        server.cli(&["RPUSH", &name, "not ours"]);
        let check = |error: StoreError| {
            assert_eq!(error.kind(), StoreErrorKind::Protocol);
            assert!(error.to_string().contains("holds a value of another type"), "{error}");
            assert!(error.to_string().contains("their own key prefix"), "{error}");
        };
        check(rl.redis().absolute().inc("bad", &rate(1.0), 1).await.unwrap_err());
        let keys = ["first", "good", "bad", "other", "bad", "last"];
        let asked = keys.map(|key| {
            let rl = rl.clone();
            async move { rl.redis().absolute().inc(key, &rate(1.0), 1).await }
        });
        // In one task, so that all but the first travel together.
        for (key, result) in keys.into_iter().zip(tokio::spawn(join_all(asked)).await.unwrap()) {
            match key {
                "bad" => check(result.unwrap_err()),
                _ => assert!(result.unwrap().is_allowed(), "{key}"),
            }
        }
    }
}

/// As managed ones are: it takes any key, but not two of different slots in one command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_behind_one_address_serves_crowds_too() {
    let cluster = Cluster::start(Flavor::Debian, 1);
    let rl = limiter(redis(cluster.nodes()[0].url()), 60);
    let crowd = |round: u64| {
        let asked = (0..64_u64).map(move |index| (key_of(round, index), rate(1.0)));
        join_all(asked.map(|(key, rate)| {
            let rl = rl.clone();
            async move { rl.redis().absolute().inc(&key, &rate, 1).await }
        }))
    };
    // It learns from the first crowd, whose requests follow the policy.
    crowd(0).await;
    for round in 1..4 {
        for result in crowd(round).await {
            assert!(result.unwrap().is_allowed());
        }
    }
    rl.redis().absolute().clear().await.unwrap();
    assert_eq!(rl.redis().absolute().get(key_of(1, 1)).await.unwrap(), 0);
}

fn key_of(round: u64, index: u64) -> String {
    format!("{round} {index}")
}

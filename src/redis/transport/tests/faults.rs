use std::time::Duration;

use ::redis::{Client, Value};

use super::{ask, cmd, int};
use crate::redis::servers::{Flavor, Server, wait_until};
use crate::redis::transport::{FailureKind, Transport};

async fn client_id(link: &Transport) -> i64 {
    int(link, &["CLIENT", "ID"]).await
}

fn connections_received(server: &Server) -> u64 {
    server.info("stats")["total_connections_received"].parse().unwrap()
}

#[tokio::test]
async fn every_form_of_url_serves() {
    let path = std::env::temp_dir().join(format!("weir-link-{}.sock", std::process::id()));
    let server = Server::start_with(Flavor::Debian, &["--unixsocket", path.to_str().unwrap(), "--requirepass", "s@fe"]);
    let host = format!("127.0.0.1:{}", server.port());
    let urls = [
        (format!("redis://:s%40fe@{host}"), "db=0"),
        (format!("redis://default:s%40fe@{host}/3"), "db=3"),
        (format!("redis://:s%40fe@{host}?protocol=resp3"), "db=0"),
        (format!("unix://{}?pass=s%40fe&db=3", path.display()), "db=3"),
    ];
    for (url, db) in &urls {
        let link = Transport::to_url(url).unwrap();
        match ask(&link, &["CLIENT", "INFO"]).await.unwrap() {
            Value::BulkString(text) => assert!(String::from_utf8(text).unwrap().contains(db), "{url}"),
            Value::VerbatimString { text, .. } => assert!(text.contains(db), "{url}"),
            other => panic!("{other:?}"),
        }
    }
    for url in [format!("redis://{host}"), format!("redis://:wrong@{host}"), format!("redis://:s%40fe@{host}/77")] {
        let failure = ask(&Transport::to_url(&url).unwrap(), &["GET", "a"]).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused, "{url}: {failure:?}");
        assert!(!format!("{failure} {failure:?}").contains("wrong"));
    }
}

#[tokio::test]
async fn nothing_is_connected_before_the_first_use_and_a_server_may_come_late() {
    let server = Server::start(Flavor::Debian);
    let before = connections_received(&server);
    let link = Transport::to_url(&server.url()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(connections_received(&server), before);

    server.kill();
    let failure = ask(&link, &["PING"]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unreachable);
    assert!(!failure.may_have_run());
    server.restart();
    ask(&link, &["PING"]).await.unwrap();
}

#[tokio::test]
async fn many_callers_share_one_connection() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let before = connections_received(&server);
    let users: Vec<_> = (0..64)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { client_id(&link).await })
        })
        .collect();
    let mut ids = Vec::new();
    for user in users {
        ids.push(user.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(connections_received(&server), before + 1);
}

/// Callers have shorter deadlines than a login to a busy server; the attempt must not restart for each of them.
#[tokio::test]
async fn callers_that_give_up_do_not_stop_the_attempt() {
    let server = Server::start(Flavor::Debian);
    let before = connections_received(&server);
    server.pause();
    let link = Transport::to_url(&server.url()).unwrap();
    for _ in 0..10 {
        let late = tokio::time::timeout(Duration::from_millis(10), ask(&link, &["PING"])).await;
        assert!(late.is_err());
    }
    server.resume();
    ask(&link, &["PING"]).await.unwrap();
    assert_eq!(connections_received(&server), before + 1);
}

#[tokio::test]
async fn a_killed_server_is_found_again() {
    let server = Server::start(Flavor::Debian);
    for suffix in ["", "?protocol=resp3"] {
        let link = Transport::to_url(&format!("{}{suffix}", server.url())).unwrap();
        ask(&link, &["SET", "a", "1"]).await.unwrap();
        let hanging = tokio::spawn({
            let link = link.clone();
            async move { ask(&link, &["BLPOP", "nothing", "0"]).await }
        });
        while server.info("clients")["blocked_clients"] != "1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        let failure = hanging.await.unwrap().unwrap_err();
        assert_eq!(failure.kind(), FailureKind::ConnectionLost);
        assert!(failure.may_have_run());
        let failure = ask(&link, &["PING"]).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Unreachable);
        server.restart();
        ask(&link, &["PING"]).await.unwrap();
    }
}

/// With RESP3 the client reports the end of an idle connection, so not a single call fails.
#[tokio::test]
async fn with_resp3_a_restart_while_idle_costs_no_call() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&format!("{}?protocol=resp3", server.url())).unwrap();
    ask(&link, &["PING"]).await.unwrap();
    server.kill();
    server.restart();
    tokio::time::sleep(Duration::from_millis(100)).await;
    ask(&link, &["PING"]).await.unwrap();
}

#[tokio::test]
async fn a_reset_leaves_a_hung_server() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let first = client_id(&link).await;
    server.pause();
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(20), ask(&link, &["PING"])).await.is_err());
    }
    link.reset();
    assert!(tokio::time::timeout(Duration::from_millis(20), ask(&link, &["PING"])).await.is_err());
    server.resume();
    // The attempt may have taken too long on a busy machine.
    while ask(&link, &["PING"]).await.is_err() {}
    assert_ne!(client_id(&link).await, first);
    // The clients are the new connection, and the one of the test harness.
    wait_until("the old one is closed", || server.info("clients")["connected_clients"] == "2");
}

/// If a name moves, the old master is healthy and wrong; only a new connection finds the new master.
#[tokio::test]
async fn the_connection_to_a_demoted_server_is_replaced() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let first = client_id(&link).await;
    assert!(server.cli(&["REPLICAOF", "127.0.0.1", "1"]).contains("OK"));
    let script = ["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "a"];
    for words in [&["SET", "a", "1"][..], &script] {
        assert_eq!(ask(&link, words).await.unwrap_err().kind(), FailureKind::ReadOnly);
    }
    assert!(server.cli(&["REPLICAOF", "NO", "ONE"]).contains("OK"));
    ask(&link, &script).await.unwrap();
    assert_ne!(client_id(&link).await, first);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let first = client_id(&link).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let script = ["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "a"];
    assert_eq!(ask(&link, &script).await.unwrap_err().kind(), FailureKind::Refused);
    let missing = ["EVALSHA", "0000000000000000000000000000000000000000", "0"];
    assert_eq!(ask(&link, &missing).await.unwrap_err().kind(), FailureKind::NoScript);
    assert_eq!(client_id(&link).await, first);
}

#[tokio::test]
async fn delete_matching_covers_all_keys() {
    let server = Server::start(Flavor::Debian);
    let other = Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for link in [Transport::to_url(&server.url()).unwrap(), Transport::over(other)] {
        for key in 0..2000 {
            server_set(&link, &format!("weir:{key}")).await;
        }
        server_set(&link, "else").await;
        assert_eq!(link.delete_matching("weir:*").await.unwrap(), 2000);
        assert_eq!(int(&link, &["DBSIZE"]).await, 1);
        assert_eq!(link.delete_matching("weir:*").await.unwrap(), 0);
    }
}

async fn server_set(link: &Transport, key: &str) {
    link.send(&cmd(&["SET", key, "1"])).await.unwrap();
}

#[tokio::test]
async fn a_connection_of_the_user_survives_a_reset() {
    let server = Server::start(Flavor::Debian);
    let connection = Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let link = Transport::over(connection.clone());
    assert!(!link.is_cluster());
    assert!(Transport::over_cluster(connection).is_cluster());
    assert_eq!(int(&link, &["INCR", "a"]).await, 1);
    link.reset();
    assert_eq!(int(&link, &["INCR", "a"]).await, 2);
    server.kill();
    assert_eq!(ask(&link, &["PING"]).await.unwrap_err().kind(), FailureKind::ConnectionLost);
}

/// The tables of `may_have_run` with a real server: a command that is reported as lost counts at most once.
#[tokio::test]
async fn killed_sockets_never_count_twice() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let (mut sure, mut open) = (0, 0);
    for round in 0..400 {
        if round % 20 == 10 {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        match ask(&link, &["INCR", "counter"]).await {
            Ok(_) => sure += 1,
            Err(failure) => open += i64::from(failure.may_have_run()),
        }
    }
    // The last socket may have been closed since.
    let _ = ask(&link, &["PING"]).await;
    let counted = int(&link, &["INCRBY", "counter", "0"]).await;
    assert!((sure..=sure + open).contains(&counted), "{sure} <= {counted} <= {sure} + {open}");
    assert!(open > 0, "the sockets were killed");
}

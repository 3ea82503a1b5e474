use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::redis::servers::{Connection, Flavor, Server};
use ::redis::Value;

use super::{ask, int};
use crate::redis::transport::slot::slot;
use crate::redis::transport::{Failure, Transport};

/// Retries until it works; a reconnect or a failover takes a moment.
async fn ask_until(link: &Transport, words: &[&str], is_wanted: impl Fn(&Result<Value, Failure>) -> bool) {
    let mut last = None;
    for _ in 0..500 {
        let answer = match tokio::time::timeout(Duration::from_millis(500), ask(link, words)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::timeout()),
        };
        if is_wanted(&answer) {
            return;
        }
        last = Some(answer);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{words:?}: {last:?}");
}

/// Three masters with a third of the slots each, and one node without slots.
fn start_cluster() -> Vec<Server> {
    let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let nodes: Vec<_> = (0..4).map(|_| Server::start_with(Flavor::Debian, &settings)).collect();
    for (node, slots) in nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
        assert!(node.cli(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]).contains("OK"));
    }
    for node in &nodes[1..] {
        nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
    }
    for node in &nodes {
        while !is_settled(node) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    nodes
}

fn is_settled(node: &Server) -> bool {
    let info = node.cli(&["CLUSTER", "INFO"]);
    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:4") && info.contains("cluster_size:3")
}

fn id(node: &Server) -> String {
    let answer = node.cli(&["CLUSTER", "MYID"]);
    answer.trim().to_owned()
}

fn link_to(nodes: &[Server]) -> Transport {
    let urls: Vec<_> = nodes[..2].iter().map(Server::url).collect();
    Transport::to_cluster(urls.iter().map(String::as_str)).unwrap()
}

#[tokio::test]
async fn all_slots_are_served_and_deleted_from() {
    let nodes = start_cluster();
    let link = link_to(&nodes);
    for key in 0..1500 {
        ask(&link, &["SET", &format!("weir:{{{key}}}"), "1"]).await.unwrap();
    }
    assert_eq!(link.delete_matching("weir:*").await.unwrap(), 1500);
    assert_eq!(link.delete_matching("weir:*").await.unwrap(), 0);
}

/// The sockets of one node are closed while a counter on it increases. With the client's own retries, a command whose
/// reply was lost would run again, and count twice.
#[tokio::test]
async fn killed_sockets_never_count_twice() {
    let nodes = start_cluster();
    assert!(slot(b"foo") > 10922);
    let link = link_to(&nodes);
    ask(&link, &["PING"]).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let killer = std::thread::spawn({
        let (done, port) = (done.clone(), nodes[2].port());
        move || {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let mut connection = Connection::open(port, Duration::from_secs(5)).unwrap();
                connection.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
            }
        }
    });
    let users: Vec<_> = (0..8)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move {
                let (mut sure, mut open) = (0, 0);
                for _ in 0..1000 {
                    match ask(&link, &["INCR", "foo"]).await {
                        Ok(_) => sure += 1,
                        Err(failure) => open += i64::from(failure.may_have_run()),
                    }
                }
                (sure, open)
            })
        })
        .collect();
    let (mut sure, mut open) = (0, 0);
    for user in users {
        let counts = user.await.unwrap();
        (sure, open) = (sure + counts.0, open + counts.1);
    }
    done.store(true, Ordering::Relaxed);
    killer.join().unwrap();
    ask_until(&link, &["GET", "foo"], Result::is_ok).await;
    let counted = int(&link, &["INCRBY", "foo", "0"]).await;
    assert!((sure..=sure + open).contains(&counted), "{sure} <= {counted} <= {sure} + {open}");
    assert!(open > 0 && sure > 0, "{sure} {open}");
}

/// A slot moves to a node that the client does not know, because the node had no slots: ASK, then MOVED.
#[tokio::test]
async fn a_slot_that_moves_fails_no_call() {
    let nodes = start_cluster();
    let link = link_to(&nodes);
    assert_eq!(int(&link, &["INCR", "foo"]).await, 1);
    let (from, to, number) = (&nodes[2], &nodes[3], slot(b"foo").to_string());
    to.cli(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &id(from)]);
    from.cli(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &id(to)]);
    assert_eq!(int(&link, &["INCR", "foo"]).await, 2);
    from.cli(&["MIGRATE", "127.0.0.1", &to.port().to_string(), "foo", "0", "1000"]);
    assert_eq!(int(&link, &["INCR", "foo"]).await, 3, "by ASK");
    for node in [to, from] {
        node.cli(&["CLUSTER", "SETSLOT", &number, "NODE", &id(to)]);
    }
    for count in 4..20 {
        assert_eq!(int(&link, &["INCR", "foo"]).await, count, "by MOVED");
    }
}

#[tokio::test]
async fn a_dead_node_does_not_affect_the_others() {
    let nodes = start_cluster();
    let link = link_to(&nodes);
    assert_eq!(int(&link, &["INCR", "foo"]).await, 1);
    assert!(slot(b"bar") < 5461);
    nodes[2].kill();
    let failure = ask(&link, &["INCR", "foo"]).await.unwrap_err();
    assert!(!failure.to_string().is_empty());
    assert_eq!(int(&link, &["INCR", "bar"]).await, 1);
    nodes[2].restart();
    ask_until(&link, &["INCR", "foo"], Result::is_ok).await;
}

#[tokio::test]
async fn a_reset_does_not_interrupt_the_healthy_nodes() {
    let nodes = start_cluster();
    let link = link_to(&nodes);
    assert_eq!(int(&link, &["INCR", "bar"]).await, 1);
    nodes[2].pause();
    assert!(tokio::time::timeout(Duration::from_millis(50), ask(&link, &["INCR", "foo"])).await.is_err());
    link.reset();
    for count in 2..50 {
        // Half of the time limit for a connection to the node that hangs.
        let answer = tokio::time::timeout(Duration::from_millis(1_500), int(&link, &["INCR", "bar"])).await;
        assert_eq!(answer, Ok(count));
    }
    nodes[2].resume();
    ask_until(&link, &["INCR", "foo"], Result::is_ok).await;
}

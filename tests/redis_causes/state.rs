//! Servers that are there and will not serve.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::client::{link, url};
use crate::servers::{Flavor, Server, wait_until};

#[test]
fn too_many_clients() {
    let server = Server::start(Flavor::Debian);
    // The harness's own connection is the one.
    server.cli(&["CONFIG", "SET", "maxclients", "1"]);
    url(&server.url()).logs(&["redis-lost", "too many clients", "raise maxclients"]);
}

#[test]
fn a_replica() {
    let (master, replica) = (Server::start(Flavor::Debian), Server::start(Flavor::Debian));
    replica.replica_of(&master);
    url(&replica.url()).logs(&["redis-lost", "read-only replica", "RedisOptions::sentinel"]);
}

/// The advice has to agree with the README on eviction.
#[test]
fn out_of_memory() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        url(&server.url()).logs(&["redis-lost", "out of memory", "raise maxmemory", "volatile-ttl"]);
    }
}

#[test]
fn too_few_replicas() {
    let server = Server::start(Flavor::Debian);
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    url(&server.url()).logs(&["redis-lost", "too few replicas", "min-replicas-to-write"]);
}

#[test]
fn a_script_that_does_not_end() {
    let server = Server::start_with(Flavor::Debian, &["--lua-time-limit", "10"]);
    let mut endless = server.connect(Duration::from_millis(100)).unwrap();
    let _ = endless.call(&["EVAL", "while true do end", "0"]);
    wait_until("the server is busy", || server.try_cli(&["GET", "a"]).is_err_and(|error| error.contains("BUSY")));
    url(&server.url()).logs(&["redis-lost", "SCRIPT KILL"]);
}

#[test]
fn a_cluster_that_is_down() {
    let node = Server::start_with(Flavor::Debian, &["--cluster-enabled", "yes"]);
    url(&node.url()).logs(&["redis-lost", "cluster is down", "cluster-require-full-coverage"]);
}

#[test]
fn a_cluster_by_the_url_of_one_node() {
    let cluster = crate::servers::Cluster::start(Flavor::Debian, 3);
    let urls = cluster.urls();
    // One of the three has the key; the other two say where it is.
    let told = urls.iter().filter(|node| std::panic::catch_unwind(|| url(node).logs(&["redis-lost"])).is_ok()).count();
    assert_eq!(told, 2);
    let words = ["redis-lost", "RedisOptions::cluster"];
    let is_named = |node: &&String| std::panic::catch_unwind(|| url(node).logs(&words)).is_ok();
    assert_eq!(urls.iter().filter(is_named).count(), 2);
    cluster.kill(0);
    cluster.kill(1);
    cluster.kill(2);
    link(&["cluster", &urls[0], &urls[1]]).logs(&["redis-lost", "refused"]);
}

#[test]
fn a_sentinel() {
    let watch = crate::servers::Sentinel::start(Flavor::Debian, 1);
    url(&watch.urls()[0]).logs(&["redis-lost", "the URL is that of a sentinel", "RedisOptions::sentinel"]);
}

/// Loopback is exempt, so that the machine needs an address of its own.
#[test]
fn protected_mode() {
    let server = Server::start_with(Flavor::Debian, &["--bind", "0.0.0.0", "--protected-mode", "yes"]);
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(own) = own else { return };
    if own.ip().is_loopback() || TcpStream::connect((own.ip(), server.port())).is_err() {
        return;
    }
    url(&format!("redis://{}:{}", own.ip(), server.port())).logs(&["redis-lost", "protected mode"]);
}

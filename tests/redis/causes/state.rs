//! Servers that are there and will not serve.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use tower_weir::{RateLimit, RateLimiter, RedisOptions};

use super::client::{PATIENCE, SILENT, link, url};
use crate::support::servers::{Flavor, Server, wait_until};

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

/// The advice has to agree with docs/redis-operations.md on eviction.
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
    let cluster = crate::support::servers::Cluster::start(Flavor::Debian, 3);
    let urls = cluster.urls();
    // One of the three has the key; the other two say where it is.
    let lines: Vec<_> = urls.iter().flat_map(|node| url(node).env(PATIENCE, "3").lines(1)).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.contains("redis-lost") && line.contains("RedisOptions::cluster")),
        "{lines:?}"
    );
    cluster.kill(0);
    cluster.kill(1);
    cluster.kill(2);
    link(&["cluster", &urls[0], &urls[1]]).logs(&["redis-lost", "refused"]);
}

/// Only Redis 6.2 can do so, and then forbids a script to write after it has asked for the time.
#[test]
fn scripts_are_replicated_by_their_text() {
    for flavor in Flavor::available().into_iter().filter(|flavor| flavor.version() < (7, 0, 0)) {
        let server = Server::start_with(flavor, &["--lua-replicate-commands", "no"]);
        url(&server.url()).logs(&["redis-lost", "replicates scripts by their text", "set lua-replicate-commands yes"]);
        assert_eq!(server.cli(&["DBSIZE"]), "0", "nothing was charged");
    }
}

#[test]
fn a_sentinel() {
    let watch = crate::support::servers::Sentinel::start(Flavor::Debian, 1);
    url(&watch.urls()[0]).logs(&["redis-lost", "the URL is the address of a sentinel", "RedisOptions::sentinel"]);
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

/// Another service under the same prefix, or an instance with another limit: the one with less is refused for ever.
#[test]
fn another_process_charges_by_other_quotas() {
    let server = Server::start(Flavor::Debian);
    let limiter = RateLimiter::builder().redis(RedisOptions::url(server.url())).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let more = RateLimit::try_from(100_000.0).unwrap();
    wait_until("the other is charged", || {
        let inc = runtime.block_on(limiter.redis().absolute().decide("key", &more, 1_000_000));
        inc.is_ok_and(|decision| decision.is_allowed() && !decision.is_local_share())
    });
    url(&server.url()).logs(&["WARN", "redis-name-shared", "prefix", "name(..)"]);
}

#[test]
fn the_end_of_an_outage_is_no_warning() {
    let server = Server::start(Flavor::Debian);
    server.kill();
    let lines = url(&server.url()).lines_and(2, || server.restart());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("ERROR") && lines[0].contains("redis-lost"), "{lines:?}");
    assert!(lines[1].starts_with("INFO") && lines[1].contains("redis-back"), "{lines:?}");
}

#[test]
fn an_outage_can_be_silenced() {
    let server = Server::start(Flavor::Debian);
    server.kill();
    let lines = url(&server.url()).env(SILENT, "redis-lost").lines(1);
    assert!(lines.is_empty(), "{lines:?}");
}

//! The harness itself, once for each thing that it can do, so that a red test elsewhere tells of the crate.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::servers::{Cluster, Connection, Flavor, Reply, Sentinel, Server, SlowProxy, wait_until};

/// Long enough for silence to be noticed.
const SHORT: Duration = Duration::from_millis(150);
/// Long enough for an answer on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);

fn start() -> Server {
    Server::start(Flavor::Debian)
}

/// Connects anew and asks; the error is the kind of the failure.
fn ping(port: u16, timeout: Duration) -> Result<(), ErrorKind> {
    let reply = Connection::open(port, timeout).and_then(|mut connection| connection.call(&["PING"]));
    assert_eq!(reply.map_err(|error| error.kind())?, Reply::Text(b"PONG".to_vec()));
    Ok(())
}

/// A new connection is accepted, and then nothing comes.
fn is_silent(port: u16) -> bool {
    ping(port, SHORT).is_err_and(is_late)
}

fn is_refused(port: u16) -> bool {
    ping(port, LONG) == Err(ErrorKind::ConnectionRefused)
}

fn is_late(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[test]
fn every_flavor_starts_and_runs_a_script() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let version = flavor.version();
        match flavor {
            Flavor::Debian => assert!(version >= (6, 2, 0), "{version:?}"),
            Flavor::Redis62 => assert_eq!((version.0, version.1), (6, 2)),
            Flavor::Redis8 => assert_eq!(version.0, 8),
            Flavor::Valkey9 => assert_eq!(version.0, 9),
        }
        let script = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000) return redis.call('TIME')";
        assert_eq!(server.cli(&["EVAL", script, "1", "key", "\u{e9}"]).lines().count(), 2);
        assert_eq!(server.cli(&["GET", "key"]), "\u{e9}");
        assert_eq!(server.cli(&["DEBUG", "SLEEP", "0"]), "OK");
        assert_eq!(server.cli(&["CONFIG", "GET", "save"]), "save\n");
        assert_eq!(server.commandstats()["set"], 1);
        server.reset_stats();
        assert!(!server.commandstats().contains_key("set"));
        println!("{flavor}: {version:?} on port {}", server.port());
    }
}

#[test]
fn arguments_errors_and_sections() {
    let server = Server::start_with(Flavor::Debian, &["--maxmemory", "1mb", "--requirepass", "secret"]);
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(server.cli(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n1048576");
    assert_eq!(server.info("memory")["maxmemory_human"], "1.00M");
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(server.try_cli(&["SET", "key", "value"]).unwrap_err().starts_with("OOM"));
    let mut stranger = Connection::open(server.port(), LONG).unwrap();
    assert!(matches!(stranger.call(&["GET", "key"]), Ok(Reply::Error(error)) if error.starts_with("NOAUTH")));
    assert!(catch_unwind(AssertUnwindSafe(|| server.cli(&["NOSUCH"]))).is_err());
}

#[test]
fn a_killed_server_refuses_and_comes_back_on_its_port_without_its_data() {
    let server = start();
    server.cli(&["SET", "key", "value"]);
    server.kill();
    assert!(!server.is_running());
    assert!(is_refused(server.port()));
    let port = server.port();
    server.restart();
    assert_eq!((server.port(), server.cli(&["GET", "key"])), (port, String::new()));
}

#[test]
fn a_paused_server_accepts_and_is_silent_until_it_is_resumed() {
    let server = start();
    server.pause();
    assert!(is_silent(server.port()) && server.is_running());
    server.resume();
    assert_eq!(server.cli(&["PING"]), "PONG");
    server.pause();
    // Dropped in this state: it must go all the same.
    let port = server.port();
    drop(server);
    assert!(is_refused(port));
}

#[test]
fn one_call_ends_what_another_waits_for() {
    let server = Arc::new(Server::start_with(Flavor::Debian, &["--lua-time-limit", "20"]));
    let busy = thread::spawn({
        let server = Arc::clone(&server);
        move || server.try_cli(&["EVAL", "while true do end", "0"])
    });
    wait_until("the script counts as slow", || server.try_cli(&["PING"]).is_err_and(|error| error.starts_with("BUSY")));
    assert_eq!(server.cli(&["SCRIPT", "KILL"]), "OK");
    assert!(busy.join().unwrap().is_err());
}

#[test]
fn a_panic_leaves_neither_a_process_nor_a_folder() {
    let mut left = None;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let server = start();
        left = Some((server.port(), server.cli(&["CONFIG", "GET", "dir"]).lines().last().unwrap().to_owned()));
        panic!("as a test does");
    }));
    let (port, folder) = left.unwrap();
    assert!(caught.is_err() && !std::path::Path::new(&folder).exists(), "{folder}");
    assert!(is_refused(port));
}

#[test]
fn a_replica_follows_refuses_writes_and_is_promoted() {
    let (master, replica) = (start(), start());
    replica.replica_of(&master);
    master.cli(&["SET", "key", "value"]);
    replica.catch_up(&master);
    assert_eq!(replica.cli(&["GET", "key"]), "value");
    assert!(replica.try_cli(&["SET", "key", "other"]).unwrap_err().starts_with("READONLY"));
    master.kill();
    replica.promote();
    assert_eq!(replica.cli(&["SET", "key", "other"]), "OK");
}

#[test]
fn a_cluster_moves_a_slot_and_loses_and_regains_a_master() {
    let cluster = Cluster::start(Flavor::Debian, 3);
    assert_eq!(cluster.urls().len(), 3);
    let slot = cluster.slot_of("{weir}key");
    let from = cluster.owner(slot).unwrap();
    let to = (from + 1) % 3;
    let (old, new) = (&cluster.nodes()[from], &cluster.nodes()[to]);
    for i in 0..250 {
        old.cli(&["SET", &format!("{{weir}}{i}"), "value"]);
    }
    assert_eq!(new.try_cli(&["GET", "{weir}1"]), Err(format!("MOVED {slot} {}", old.address())));

    let migration = cluster.begin_migration(slot, to);
    assert_eq!(old.cli(&["GET", "{weir}1"]), "value");
    assert_eq!(old.try_cli(&["GET", "{weir}none"]), Err(format!("ASK {slot} {}", new.address())));
    migration.move_keys();
    migration.finish();
    assert_eq!(new.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]), "250");
    assert_eq!(old.try_cli(&["GET", "{weir}1"]), Err(format!("MOVED {slot} {}", new.address())));

    cluster.kill(to);
    wait_until("the others notice", || {
        old.try_cli(&["SET", "key", "value"]).is_err_and(|error| error.starts_with("CLUSTERDOWN"))
    });
    cluster.restart(to);
    assert_eq!(new.cli(&["SET", "{weir}1", "value"]), "OK");
}

#[test]
fn a_cluster_with_replicas_fails_over() {
    let cluster = Cluster::start_with(Flavor::Debian, 3, 1, &["--cluster-node-timeout", "1000"]);
    let slot = cluster.slot_of("key");
    let master = cluster.owner(slot).unwrap();
    cluster.kill(master);
    wait_until("the replica takes over", || cluster.owner(slot) == Some(master + 3));
    cluster.wait_ok();
    assert_eq!(cluster.nodes()[master + 3].cli(&["SET", "key", "value"]), "OK");
}

#[test]
fn sentinels_promote_the_replica() {
    let watch = Sentinel::start(Flavor::Debian, 3);
    assert_eq!(watch.master().map(Server::port), Some(watch.servers()[0].port()));
    assert_eq!((watch.sentinels().len(), watch.urls().len()), (3, 3));
    watch.servers()[0].kill();
    assert_eq!(watch.wait_failover().cli(&["SET", "key", "value"]), "OK");
}

#[test]
fn a_proxy_delays_each_direction() {
    let server = start();
    let proxy = SlowProxy::in_front_of(&server);
    assert_eq!(ping(proxy.port(), LONG), Ok(()));
    for (to_server, to_client) in [(60, 0), (0, 60), (30, 40)] {
        proxy.delay(Duration::from_millis(to_server), Duration::from_millis(to_client));
        let began = Instant::now();
        assert_eq!(ping(proxy.port(), LONG), Ok(()));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(to_server + to_client), "{took:?}");
    }
    assert_eq!(proxy.accepted(), 4);
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port()));
}

/// A connection to a proxy, with a counter behind it.
struct Counter(Connection);

impl Counter {
    fn behind(proxy: &SlowProxy) -> Self {
        Self(Connection::open(proxy.port(), LONG).unwrap())
    }

    fn add(&mut self) -> Result<Reply, ErrorKind> {
        self.0.call(&["INCR", "key"]).map_err(|error| error.kind())
    }

    fn add_in_vain(&mut self) {
        self.0.give_up_after(SHORT);
        assert!(is_late(self.add().unwrap_err()));
        self.0.give_up_after(LONG);
    }
}

#[test]
fn what_a_cut_connection_held_is_lost() {
    let server = start();
    let proxy = SlowProxy::in_front_of(&server);
    let mut counter = Counter::behind(&proxy);
    assert_eq!(counter.add(), Ok(Reply::Integer(1)));
    proxy.black_hole();
    counter.add_in_vain();
    assert!(is_silent(proxy.port()));
    proxy.cut();
    assert!(counter.add().is_err());
    proxy.heal();
    assert_eq!(Counter::behind(&proxy).add(), Ok(Reply::Integer(2)));
}

#[test]
fn what_was_held_back_comes_late() {
    let server = start();
    let proxy = SlowProxy::in_front_of(&server);
    let mut counter = Counter::behind(&proxy);
    proxy.black_hole();
    counter.add_in_vain();
    assert_eq!(server.cli(&["GET", "key"]), "", "the server knows nothing of it");
    proxy.heal();
    assert_eq!(counter.0.receive().unwrap(), Reply::Integer(1));

    proxy.hold_replies();
    counter.add_in_vain();
    wait_until("the server has acted", || server.cli(&["GET", "key"]) == "2");
    proxy.heal();
    assert_eq!(counter.0.receive().unwrap(), Reply::Integer(2));
}

#[test]
fn a_proxy_refuses_and_outlives_its_server() {
    let server = start();
    let proxy = SlowProxy::in_front_of(&server);
    let mut counter = Counter::behind(&proxy);
    assert_eq!(counter.add(), Ok(Reply::Integer(1)));
    proxy.refuse();
    assert!(ping(proxy.port(), LONG).is_err());
    assert_eq!(counter.add(), Ok(Reply::Integer(2)), "open connections go on");
    proxy.heal();
    server.kill();
    assert!(ping(proxy.port(), LONG).is_err());
    server.restart();
    assert_eq!(ping(proxy.port(), LONG), Ok(()));
}

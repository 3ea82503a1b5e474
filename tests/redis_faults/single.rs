//! The faults of one server, and of the way to it.

use std::thread;
use std::time::Duration;

use tower_weir::RedisOptions;

use crate::DEADLINE;
use crate::fault_scenario::{Course, Report};
use crate::support::servers::{Flavor, Server, SlowProxy, wait_until};

pub(crate) const FAULTS: &[fn(Duration) -> Report] = &[
    down_from_the_start,
    killed,
    stopped,
    sleeping,
    black_hole,
    forgotten,
    forgotten_while_open,
    cut,
    refused,
    out_of_memory,
    failed_over,
    no_password,
    loading,
    busy,
    slow_link,
];

macro_rules! tests {
    ($($fault:ident)*) => {
        mod tests {
            $(#[test]
            fn $fault() {
                super::$fault(super::DEADLINE).print();
            })*
        }
    };
}

tests! {
    down_from_the_start killed stopped sleeping black_hole forgotten forgotten_while_open cut refused out_of_memory
    failed_over no_password loading busy slow_link
}

/// A server that keeps its data when it is killed, and the options for it.
fn server() -> (Server, impl Fn() -> RedisOptions) {
    let server = Server::start_with(Flavor::Debian, &["--appendonly", "yes"]);
    let url = server.url();
    (server, move || RedisOptions::url(&url))
}

fn behind_proxy() -> (Server, SlowProxy, impl Fn() -> RedisOptions) {
    let (server, _) = server();
    let proxy = SlowProxy::in_front_of(&server);
    let url = proxy.url();
    (server, proxy, move || RedisOptions::url(&url))
}

fn down_from_the_start(deadline: Duration) -> Report {
    let (server, redis) = server();
    server.kill();
    let course = Course { is_well: false, ..Course::new("down from the start", deadline) };
    course.run(redis, || {}, || server.restart())
}

fn killed(deadline: Duration) -> Report {
    let (server, redis) = server();
    Course::new("killed and restarted", deadline).run(redis, || server.kill(), || server.restart())
}

fn stopped(deadline: Duration) -> Report {
    let (server, redis) = server();
    Course::new("stopped and continued", deadline).run(redis, || server.pause(), || server.resume())
}

fn sleeping(deadline: Duration) -> Report {
    let (server, redis) = server();
    let course = Course::new("DEBUG SLEEP", deadline);
    let lasts = format!("{:.1}", course.lasts.as_secs_f64());
    thread::scope(|scope| {
        let (server, mut sleeper) = (&server, None);
        let sleep = || sleeper = Some(scope.spawn(move || server.cli(&["DEBUG", "SLEEP", &lasts])));
        // Its reply is the end.
        course.run(redis, sleep, || drop(server.cli(&["PING"])))
    })
}

fn black_hole(deadline: Duration) -> Report {
    let (_server, proxy, redis) = behind_proxy();
    let course = Course { proxy: Some(&proxy), ..Course::new("black hole", deadline) };
    course.run(redis, || proxy.black_hole(), || proxy.heal())
}

/// The connections carry nothing any more, and never say so; new ones would.
fn forgotten(deadline: Duration) -> Report {
    let (_server, proxy, redis) = behind_proxy();
    let course = Course { lasts: Duration::ZERO, ..Course::new("forgotten connections", deadline) };
    course.run(redis, || proxy.strand(), || {})
}

/// As [`forgotten`], when nobody asks but the probe.
fn forgotten_while_open(deadline: Duration) -> Report {
    let (server, proxy, redis) = behind_proxy();
    let begin = || drop(server.cli(&["CONFIG", "SET", "maxmemory", "1"]));
    let end = || {
        proxy.strand();
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    };
    Course::new("forgotten while open", deadline).run(redis, begin, end)
}

/// Connections that are closed now and then cost the calls that are on them, and no more.
fn cut(deadline: Duration) -> Report {
    let (_server, proxy, redis) = behind_proxy();
    let cut = || {
        for _ in 0..5 {
            proxy.cut();
            // Five failures without an answer between them would be an outage.
            thread::sleep(Duration::from_millis(600));
        }
    };
    let course = Course { opens: false, lasts: Duration::ZERO, ..Course::new("cut five times", deadline) };
    let before = proxy.accepted();
    let report = course.run(redis, cut, || {});
    assert!(proxy.accepted() - before <= 3 + 3 * 5, "one for each site and cut: {}", proxy.accepted());
    report
}

fn refused(deadline: Duration) -> Report {
    let (_server, proxy, redis) = behind_proxy();
    let refuse = || {
        proxy.refuse();
        proxy.cut();
    };
    Course { proxy: Some(&proxy), ..Course::new("cut and refused", deadline) }.run(redis, refuse, || proxy.heal())
}

fn out_of_memory(deadline: Duration) -> Report {
    let (server, proxy, redis) = behind_proxy();
    let limit = |bytes| drop(server.cli(&["CONFIG", "SET", "maxmemory", bytes]));
    Course { proxy: Some(&proxy), ..Course::new("OOM", deadline) }.run(redis, || limit("1"), || limit("0"))
}

/// Another server is the master now. The name leads to it a while later; until then the old one is healthy, and
/// a replica.
fn failed_over(deadline: Duration) -> Report {
    let (old, proxy, redis) = behind_proxy();
    let new = Server::start(Flavor::Debian);
    new.replica_of(&old);
    let begin = || {
        // Loses nothing: writes wait until the other one has all.
        old.cli(&["FAILOVER", "TO", "127.0.0.1", &new.port().to_string()]);
        wait_until("the old master is a replica", || old.info("replication")["role"] == "slave");
    };
    Course { proxy: Some(&proxy), ..Course::new("READONLY, failed over", deadline) }
        .run(redis, begin, || proxy.lead_to(&new))
}

fn no_password(deadline: Duration) -> Report {
    let (server, proxy, redis) = behind_proxy();
    let mut admin = server.connect(Duration::from_secs(10)).unwrap();
    let mut ask = |command: &[&str]| drop(admin.call(command).unwrap());
    let ask = std::cell::RefCell::new(&mut ask);
    let begin = || {
        ask.borrow_mut()(&["CONFIG", "SET", "requirepass", "secret"]);
        // Connections that are there stay logged in.
        ask.borrow_mut()(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    };
    let end = || ask.borrow_mut()(&["CONFIG", "SET", "requirepass", ""]);
    Course { proxy: Some(&proxy), ..Course::new("NOAUTH", deadline) }.run(redis, begin, end)
}

/// A restarted server takes its time to read its file; it has no data after that which it has not saved.
fn loading(deadline: Duration) -> Report {
    let slowly =
        ["--key-load-delay", "2500", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no"];
    let server = Server::start_with(Flavor::Debian, &slowly);
    server.cli(&["DEBUG", "POPULATE", "1800", "other", "2000"]);
    server.cli(&["SAVE"]);
    let url = server.url();
    thread::scope(|scope| {
        let (server, restarting) = (&server, std::cell::Cell::new(None));
        let begin = || {
            restarting.set(Some(scope.spawn(|| server.restart())));
            wait_until("it loads", || server.try_cli(&["PING"]).is_err_and(|error| error.starts_with("LOADING")));
        };
        let end = || restarting.take().unwrap().join().unwrap();
        let course = Course { keeps: false, ..Course::new("LOADING", deadline) };
        course.run(|| RedisOptions::url(&url), begin, end)
    })
}

/// Another client's script that does not end.
fn busy(deadline: Duration) -> Report {
    let (server, proxy, redis) = behind_proxy();
    server.cli(&["CONFIG", "SET", "lua-time-limit", "50"]);
    thread::scope(|scope| {
        let mut other = server.connect(Duration::from_secs(30)).unwrap();
        let begin = || drop(scope.spawn(move || other.call(&["EVAL", "while true do end", "0"])));
        let end = || drop(server.cli(&["SCRIPT", "KILL"]));
        Course { proxy: Some(&proxy), ..Course::new("BUSY", deadline) }.run(redis, begin, end)
    })
}

/// Redis answers all, and each time too late.
fn slow_link(deadline: Duration) -> Report {
    let (_server, proxy, redis) = behind_proxy();
    let slow = || proxy.delay(Duration::ZERO, deadline * 5 / 2);
    Course { proxy: Some(&proxy), ..Course::new("slow link", deadline) }.run(redis, slow, || proxy.heal())
}

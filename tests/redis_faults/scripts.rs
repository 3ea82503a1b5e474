//! Servers that are well, and do not do what the scripts ask of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions};

use crate::DEADLINE;
use crate::log::Log;
use crate::support::servers::{Flavor, Server, wait_until};
use crate::traffic::By;
use crate::workload::Site;

/// One request, on a thread whose log is heard.
fn ask(site: &Site, key: &'static str) -> By {
    site.requests(1, key).into_iter().map(|request| site.outcome(request).by).next().unwrap()
}

fn for_a_second(mut request: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        request();
        sleep(Duration::from_millis(2));
    }
}

/// The probe used to be a `SET`: it went through, the next five decisions did not, and so on, with two lines in the
/// log each time.
#[test]
fn a_server_that_takes_writes_but_no_scripts_is_lost_once() {
    let server = Server::start(Flavor::Debian);
    let site = Site::new(RedisOptions::url(server.url()), OnStoreError::Reject, DEADLINE * 5);
    assert_eq!(ask(&site, "key"), By::Redis);
    server.cli(&["ACL", "SETUSER", "default", "-eval", "-evalsha"]);
    wait_until("Redis is lost", || ask(&site, "key") == By::Nobody);
    for_a_second(|| assert_eq!(ask(&site, "key"), By::Nobody));
    assert_eq!(site.log.count("redis-lost").unwrap_or(1), 1);
    assert_eq!(site.log.count("redis-back").unwrap_or(0), 0);
    server.cli(&["ACL", "SETUSER", "default", "+eval", "+evalsha"]);
    wait_until("Redis decides", || ask(&site, "key") == By::Redis);
}

/// No breaker opens for it, so it would go on in silence: a limit that holds on each instance for itself.
#[test]
fn an_answer_that_makes_no_sense_is_told_once() {
    let server = Server::start(Flavor::Debian);
    let site = Site::new(RedisOptions::url(server.url()), OnStoreError::Reject, DEADLINE * 5);
    assert_eq!(ask(&site, "key"), By::Redis);
    let name = server.cli(&["KEYS", "Reject:1:*"]);
    server.cli(&["DEL", &name]);
    server.cli(&["RPUSH", &name, "not ours"]);
    for _ in 0..20 {
        assert_eq!(ask(&site, "key"), By::Nobody);
        assert_eq!(ask(&site, "another"), By::Redis);
    }
    assert_eq!(site.log.count("redis-odd").unwrap_or(1), 1);
    assert_eq!(site.log.count("redis-lost").unwrap_or(0), 0);
}

/// Decisions go on, so that nothing would show it until each instance took the whole limit for its share.
#[test]
fn instances_that_cannot_be_counted_are_told_of() {
    let server = Server::start(Flavor::Debian);
    server.cli(&["ACL", "SETUSER", "default", "-zadd"]);
    let log = Log::default();
    let listening = log.clone();
    let listen = move || listening.listen();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().on_thread_start(listen).build().unwrap();
    let options = RedisOptions::url(server.url()).deadline(DEADLINE * 5);
    let limiter = RateLimiter::builder().redis(options).build().unwrap();
    let rate = RateLimit::try_from(1.0).unwrap();
    let decision = runtime.block_on(limiter.redis().absolute().decide("key", &rate, 1)).unwrap();
    assert!(decision.is_allowed() && !decision.is_local_share());
    wait_until("it is told", || log.count("redis-instances").is_none_or(|lines| lines == 1));
}

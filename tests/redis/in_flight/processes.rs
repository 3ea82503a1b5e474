//! A process that is killed frees its permits after their time to live, and not before.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{TTL, cap, hold, instance, send, until, used};
use crate::support::servers::{Flavor, Server};

/// Names the worker's server.
const ORDER: &str = "WEIR_TEST_PERMITS";
const READY: &str = "the permits are held";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_frees_its_permits_after_their_time_to_live() {
    let server = Server::start(Flavor::Debian);
    let layer = instance(&server, false, [cap(3)]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "in_flight::processes::worker"]).env(ORDER, server.url());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(READY)));
    let own = hold(&layer, "a", 1).await;
    // It lives for longer than a permit does without a renewal.
    let began = Instant::now();
    while began.elapsed() < TTL * 3 / 2 {
        assert_eq!(used(&layer, "a").await, 3, "after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    // The last renewal was at most a third of the time ago.
    while killed.elapsed() < TTL / 3 {
        assert_eq!(used(&layer, "a").await, 3, "{:?} after it was killed", killed.elapsed());
        assert_eq!(send(&layer, "a").await.status(), 429);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until(&layer, "a", 1).await;
    let again = hold(&layer, "a", 2).await;
    drop((own, again));
    until(&layer, "a", 0).await;
}

#[test]
#[ignore = "the other test starts it, in a process of its own"]
fn worker() {
    let url = std::env::var(ORDER).expect("the other test's order");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = tower_weir::RedisOptions::url(url).deadline(Duration::from_secs(1));
        let rl = tower_weir::RateLimiter::builder().redis(options).build().unwrap();
        let layer = tower_weir::RateLimitLayer::builder().limiter(rl.hybrid()).limit(cap(3)).build().unwrap();
        let _held = hold(&layer, "a", 2).await;
        println!("{READY}");
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
}

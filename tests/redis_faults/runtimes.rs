//! Runtimes that end, or stand still, while callers on another one wait.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tower_weir::{OnStoreError, RedisOptions};

use crate::DEADLINE;
use crate::bounds;
use crate::support::servers::{Flavor, Server, SlowProxy, wait_until};
use crate::traffic::{By, Keys, Record, Surface};
use crate::workload::Site;

const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A site, whose runtime is the one that goes on.
struct Scene {
    site: Site,
    proxy: SlowProxy,
    _server: Server,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start(Flavor::Debian);
        let proxy = SlowProxy::in_front_of(&server);
        let site = Site::new(RedisOptions::url(proxy.url()), OnStoreError::LocalShare, DEADLINE);
        Self { site, proxy, _server: server }
    }

    /// Waits for requests that were made, none of them for long.
    fn await_all(&self, requests: Vec<JoinHandle<Record>>) {
        for request in requests {
            self.site.outcome(request);
        }
    }

    /// All requests of a flow are answered in time, and soon by Redis.
    fn serves_again(self, what: &str) {
        let began = Instant::now();
        self.site.flow(2, Surface::Engine, &Keys::Fresh);
        while !self.site.is_served() {
            assert!(began.elapsed() < BACK_WITHIN, "{what}: not served after {BACK_WITHIN:?}");
            sleep(Duration::from_millis(10));
        }
        println!("{what}: served by Redis after {:?}", began.elapsed());
        let (_, _, records) = self.site.finish();
        bounds::check_latency(what, &records);
    }
}

/// A runtime that is polled only where a test says so.
fn polled_by_hand() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_runtime_that_is_shut_down_takes_nobody_along() {
    let scene = Scene::new();
    for round in 0..6 {
        let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        match round % 2 {
            // Answers are under way.
            0 => scene.proxy.delay(Duration::ZERO, DEADLINE / 4),
            // None will come.
            _ => scene.proxy.black_hole(),
        }
        // On this one is the connection, and the loop that serves the queue.
        drop(scene.site.calls.requests(&other, 6, "there"));
        sleep(DEADLINE / 10);
        let here = scene.site.requests(6, "here");
        other.shutdown_background();
        scene.await_all(here);
        scene.proxy.heal();
        wait_until("Redis decides", || scene.site.request("here").by == By::Redis);
    }
    scene.serves_again("shut down");
}

#[test]
fn a_runtime_that_stands_still_with_the_connection() {
    let (scene, still) = (Scene::new(), polled_by_hand());
    let first = || still.block_on(scene.site.calls.request(Surface::Engine, Keys::OTHER, "there"));
    wait_until("Redis decides", || first().by == By::Redis);
    scene.await_all(scene.site.requests(20, "here"));
    scene.serves_again("still with the connection");
    drop(still);
}

#[test]
fn a_runtime_that_stands_still_with_the_queue() {
    let (scene, still) = (Scene::new(), polled_by_hand());
    wait_until("Redis decides", || scene.site.request("here").by == By::Redis);
    scene.proxy.delay(Duration::ZERO, DEADLINE / 2);
    let there = still.block_on(async {
        let calls = Arc::clone(&scene.site.calls);
        let there = calls.requests(&still, 6, "there");
        tokio::time::sleep(DEADLINE / 10).await;
        there
    });
    scene.await_all(scene.site.requests(20, "here"));
    scene.proxy.heal();
    // Somebody else serves the queue.
    scene.await_all(scene.site.requests(20, "here"));
    wait_until("Redis decides", || scene.site.request("here").by == By::Redis);
    // The calls of the one that stands still are over, too, as soon as it goes on.
    still.block_on(async {
        for request in there {
            request.await.unwrap();
        }
    });
    scene.serves_again("still with the queue");
}

#[test]
fn a_runtime_that_stands_still_while_it_connects() {
    let (scene, still) = (Scene::new(), polled_by_hand());
    scene.proxy.black_hole();
    let first = still.block_on(scene.site.calls.request(Surface::Engine, Keys::OTHER, "there"));
    assert_eq!(first.by, By::Share);
    scene.proxy.heal();
    scene.await_all(scene.site.requests(20, "here"));
    scene.serves_again("still while it connects");
    drop(still);
}

#[test]
fn a_runtime_that_stands_still_with_the_probe() {
    let (scene, still) = (Scene::new(), polled_by_hand());
    scene.proxy.refuse();
    for _ in 0..6 {
        let lost = still.block_on(scene.site.calls.request(Surface::Engine, Keys::OTHER, "there"));
        assert_eq!(lost.by, By::Share);
    }
    scene.proxy.heal();
    scene.await_all(scene.site.requests(20, "here"));
    scene.serves_again("still with the probe");
    // It goes on, and finds that others have probed.
    still.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
}

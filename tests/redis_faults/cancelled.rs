//! Requests whose callers have gone.

use std::thread::sleep;
use std::time::Duration;

use tower_weir::{OnStoreError, RedisOptions};

use crate::DEADLINE;
use crate::support::servers::{Flavor, Server, SlowProxy, wait_until};
use crate::traffic::By;
use crate::workload::Site;

/// Sends requests at the same time and drops every second one, the first of all among them; what the others get.
fn others(site: &Site) -> Vec<By> {
    let requests = site.requests(12, "key");
    sleep(DEADLINE / 10);
    let mut others = Vec::new();
    for (i, request) in requests.into_iter().enumerate() {
        match i % 2 {
            0 => request.abort(),
            _ => others.push(site.outcome(request).by),
        }
    }
    others
}

#[test]
fn a_request_that_is_dropped_hurts_nobody_else() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    // It waits longer than this test's busy machine may make it.
    let site = Site::new(RedisOptions::url(proxy.url()).deny_cache(false), OnStoreError::Reject, DEADLINE * 10);
    assert_eq!(site.request("key").by, By::Redis);
    for round in 0..12 {
        proxy.delay(Duration::ZERO, DEADLINE / 4);
        assert!(others(&site).iter().all(|by| *by == By::Redis), "round {round}");
    }
    assert!(matches!(site.log.count("redis-lost"), None | Some(0)));
    for _ in 0..3 {
        proxy.black_hole();
        assert!(others(&site).iter().all(|by| *by == By::Nobody));
        proxy.heal();
        wait_until("Redis decides", || site.request("key").by == By::Redis);
    }
    // The line follows the first decision.
    wait_until("each loss has its end", || site.log.is_balanced());
}

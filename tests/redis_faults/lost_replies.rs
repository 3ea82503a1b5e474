//! Calls of which nobody knows whether they were carried out: charged once at most.

use std::thread::sleep;
use std::time::Duration;

use tower_weir::{OnStoreError, RedisOptions};

use crate::DEADLINE;
use crate::support::servers::{Cluster, Flavor, Server, SlowProxy, wait_until};
use crate::traffic::By;
use crate::workload::{CAPACITY, Site};

const ROUNDS: u64 = 4;
const AT_ONCE: u64 = 6;

/// Redis charges, and its answers are lost: with the connection, or since they come too late.
fn charged_once(redis: RedisOptions, proxies: &[SlowProxy], deadline: Duration, is_cut_in_time: bool) {
    // One window for all, with room for twice as much.
    const { assert!(ROUNDS * AT_ONCE < CAPACITY) };
    let site = Site::with_window(redis, OnStoreError::Reject, deadline, Duration::from_secs(60));
    // Of this very key: on a cluster others say nothing of its master.
    let is_served = || site.get("doubtful").is_ok();
    wait_until("Redis decides", is_served);
    let (mut sent, mut known) = (0, 0);
    for _ in 0..ROUNDS {
        proxies.iter().for_each(SlowProxy::hold_replies);
        let requests = site.requests(AT_ONCE as usize, "doubtful");
        sent += AT_ONCE;
        if is_cut_in_time {
            // They are there by now, and wait for their answers.
            sleep(deadline / 5);
            proxies.iter().for_each(SlowProxy::cut);
            proxies.iter().for_each(SlowProxy::heal);
        }
        for request in requests {
            let record = site.outcome(request);
            known += u64::from(record.is_admitted);
            assert_eq!(record.by, if record.is_admitted { By::Redis } else { By::Nobody });
        }
        proxies.iter().for_each(SlowProxy::cut);
        proxies.iter().for_each(SlowProxy::heal);
        wait_until("Redis decides again", is_served);
    }
    let charged = site.get("doubtful").unwrap();
    println!("{sent} sent, {known} known to be admitted, {charged} charged; cut in time: {is_cut_in_time}");
    assert!((known..=sent).contains(&charged), "{known} <= {charged} <= {sent}");
    assert!(charged > known, "nothing was in doubt");
}

#[test]
fn one_server_charges_once() {
    let server = Server::start(Flavor::Debian);
    let proxies = [SlowProxy::in_front_of(&server)];
    charged_once(RedisOptions::url(proxies[0].url()), &proxies, DEADLINE, false);
    charged_once(RedisOptions::url(proxies[0].url()).prefix("in-time"), &proxies, DEADLINE * 10, true);
}

#[test]
fn a_cluster_charges_once() {
    let cluster = Cluster::start(Flavor::Debian, 3);
    let proxies: Vec<SlowProxy> = cluster.nodes().iter().map(SlowProxy::in_front_of).collect();
    for (node, proxy) in cluster.nodes().iter().zip(&proxies) {
        node.cli(&["CONFIG", "SET", "cluster-announce-port", &proxy.port().to_string()]);
    }
    wait_until("all name the proxies", || {
        let names = |node: &Server| node.cli(&["CLUSTER", "SLOTS"]);
        cluster
            .nodes()
            .iter()
            .map(names)
            .all(|slots| proxies.iter().all(|proxy| slots.lines().any(|line| line == proxy.port().to_string())))
    });
    let redis = || RedisOptions::cluster(proxies.iter().map(SlowProxy::url));
    charged_once(redis(), &proxies, DEADLINE, false);
    charged_once(redis().prefix("in-time"), &proxies, DEADLINE * 10, true);
}

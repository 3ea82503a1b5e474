//! A cluster of three masters, one of which is killed, or gives a slot away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RedisOptions};

use crate::bounds;
use crate::fault_scenario::{Course, Report};
use crate::support::servers::{Cluster, Flavor, Server, wait_until};
use crate::traffic::{By, Keys, Record, Surface};
use crate::workload::{POLICIES, Site};

pub(crate) const FAULTS: &[fn(Duration) -> Report] = &[slot_moves, master_killed];

/// The first number of the keys whose master lives.
const LIVING: usize = 1_000;
const VICTIM: usize = 1;

fn start() -> Cluster {
    Cluster::start_with(Flavor::Debian, 3, 0, &["--appendonly", "yes"])
}

/// By default all nodes refuse while the slots of one are not served.
fn start_without_full_coverage() -> Cluster {
    Cluster::start_with(Flavor::Debian, 3, 0, &["--cluster-require-full-coverage", "no", "--appendonly", "yes"])
}

/// The Redis key that a site's request made, and the node on which it is. Other sites make keys as well.
fn trace(cluster: &Cluster, policy: OnStoreError, request: impl FnOnce()) -> (usize, String) {
    let pattern = format!("{policy:?}*");
    let names =
        |node: &Server| -> BTreeSet<String> { node.cli(&["KEYS", &pattern]).lines().map(str::to_owned).collect() };
    let before: Vec<_> = cluster.nodes().iter().map(names).collect();
    request();
    let after = cluster.nodes().iter().map(names);
    let made = after.zip(before).enumerate().find_map(|(node, (after, before))| {
        after.into_iter().find(|name| !name.is_empty() && !before.contains(name)).map(|name| (node, name))
    });
    made.expect("the request made a key")
}

fn slot_moves(deadline: Duration) -> Report {
    let cluster = start();
    let redis = || RedisOptions::cluster(cluster.urls());
    let slot = {
        let site = Site::new(redis(), OnStoreError::Reject, deadline);
        wait_until("the cluster serves", || site.request("first").by == By::Redis);
        cluster.slot_of(&trace(&cluster, site.policy, || assert_eq!(site.request("hot").by, By::Redis)).1)
    };
    let migrate = || {
        for _ in 0..4 {
            let owner = cluster.owner(slot).unwrap();
            cluster.migrate_slot(slot, (owner + 1) % 3);
            sleep(Duration::from_millis(200));
        }
    };
    let course = Course { opens: false, lasts: Duration::ZERO, ..Course::new("a slot moves four times", deadline) };
    course.run(redis, migrate, || {})
}

/// Only the keys of the master that was killed follow the policy.
fn master_killed(deadline: Duration) -> Report {
    let cluster = start_without_full_coverage();
    let sites = POLICIES.map(|policy| Site::new(RedisOptions::cluster(cluster.urls()), policy, deadline));
    for site in &sites {
        wait_until("the cluster serves", || site.request("first").by == By::Redis);
        let (mut dying, mut living) = (Vec::new(), Vec::new());
        for key in (0..24).map(|number| format!("key-{number}")) {
            match trace(&cluster, site.policy, || assert_eq!(site.request(&key).by, By::Redis)).0 {
                VICTIM => dying.push(key),
                _ => living.push(key),
            }
        }
        for (first, keys) in [(0, dying), (LIVING, living)] {
            let keys = Keys::These { first, keys: Arc::from(keys) };
            site.flow(3, Surface::Engine, &keys);
            site.flow(1, Surface::Layer, &keys);
        }
    }
    sleep(Duration::from_millis(500));
    Site::clear_logs(&sites);
    let began = Instant::now();
    cluster.kill(VICTIM);
    sleep(deadline * 5 + Duration::from_millis(1_000));
    let settled = Instant::now();
    sleep(Duration::from_millis(2_000));
    let until = Instant::now();
    cluster.restart(VICTIM);
    let ended = Instant::now();
    let is_back = |site: &Site| {
        let lately = site.since(Instant::now() - Duration::from_millis(200));
        let by_redis = |record: &Record| matches!(record.by, By::Redis | By::Somebody);
        site.log.is_balanced() && lately.len() > 10 && lately.iter().all(by_redis)
    };
    while !sites.iter().all(is_back) {
        assert!(ended.elapsed() < Duration::from_secs(10), "not served {:?} after its end", ended.elapsed());
        sleep(Duration::from_millis(10));
    }
    let (mut report, mut all) = (Report::new("a master of three killed"), Vec::new());
    for site in sites {
        let (policy, log, records) = site.finish();
        check_killed(policy, &records, settled, until);
        for code in ["redis-lost", "redis-back"] {
            assert_eq!(log.count(code).unwrap_or(1), 1, "{policy:?}: lines of {code}");
        }
        let unserved = records.iter().filter(|record| matches!(record.by, By::Share | By::Nobody));
        let last = unserved.map(|record| record.received).max().unwrap();
        report.recovered_after(last.saturating_duration_since(ended));
        all.extend(records.into_iter().filter(|record| record.is_within(began, until)));
    }
    report.fill(&all, settled);
    report
}

fn check_killed(policy: OnStoreError, records: &[Record], settled: Instant, until: Instant) {
    bounds::check_latency(&format!("{policy:?}"), records);
    let of = |is_living: bool| {
        let is_of = move |record: &&Record| (record.key >= LIVING) == is_living && record.surface == Surface::Engine;
        records.iter().filter(|record| record.is_within(settled, until)).filter(is_of)
    };
    let (dying, living) = (of(false).count(), of(true).count());
    let asked = |is_living| of(is_living).filter(|record| record.by == By::Redis).count();
    println!("{policy:?}: Redis decided on {} of {dying} and {} of {living}", asked(false), asked(true));
    assert!(dying > 100 && living > 100, "{policy:?}: {dying} and {living}");
    assert_eq!(asked(false), 0);
    assert!(asked(true) * 10 >= living * 9, "{policy:?}: {} of {living} by the masters that live", asked(true));
    let admitted = of(false).filter(|record| record.is_admitted).count();
    match policy {
        OnStoreError::Allow => assert_eq!(admitted, dying),
        OnStoreError::LocalShare => assert!(admitted > 0 && admitted < dying),
        _ => assert_eq!(admitted, 0),
    }
}

#[test]
fn a_slot_that_moves_costs_little() {
    // Five calls in a row that a busy machine delays by more would be an outage.
    slot_moves(crate::DEADLINE * 5).print();
}

#[test]
fn a_master_that_is_killed_takes_no_other_with_it() {
    master_killed(crate::DEADLINE).print();
}

/// As Redis is by default: all keys are refused from when the node counts as dead until its replica is promoted.
#[test]
fn with_redis_defaults_a_failover_ends_in_service_for_all() {
    let cluster = Cluster::start_with(Flavor::Debian, 3, 1, &[]);
    let sites = POLICIES.map(|policy| Site::new(RedisOptions::cluster(cluster.urls()), policy, crate::DEADLINE));
    for site in &sites {
        wait_until("the cluster serves", || site.request("first").by == By::Redis);
        site.flow(4, Surface::Engine, &Keys::Fresh);
    }
    wait_until("all sites are served", || sites.iter().all(Site::is_served));
    Site::clear_logs(&sites);
    cluster.kill(VICTIM);
    let began = Instant::now();
    wait_until("some keys are not served", || !sites.iter().any(Site::is_served));
    wait_until("all sites are served again", || sites.iter().all(Site::is_served));
    println!("served again after {:?}", began.elapsed());
    sleep(Duration::from_millis(1_500));
    wait_until("each loss has its end", || sites.iter().all(|site| site.is_served() && site.log.is_balanced()));
    for site in sites {
        let (policy, log, records) = site.finish();
        bounds::check_latency(&format!("{policy:?}"), &records);
        let [lost, back] = ["redis-lost", "redis-back"].map(|code| log.count(code).unwrap_or(1));
        assert!((1..=2).contains(&lost) && lost == back, "{policy:?}: {lost} and {back} lines");
    }
}

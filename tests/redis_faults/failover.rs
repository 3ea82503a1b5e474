//! A planned failover: the old master lives on, and answers well.

use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, WindowSizeSeconds};

use crate::support::servers::{Flavor, Sentinel, wait_until};

const CAPACITY: u64 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// How long after the promotion the sentinels agree, and all instances have heard of it.
const HEARD_WITHIN: Duration = Duration::from_secs(4);

/// Admissions of one instance: when each was sent, and when its answer was there.
type Admitted = std::sync::Arc<std::sync::Mutex<Vec<(Instant, Instant)>>>;

fn instance(watch: &Sentinel, is_hybrid: bool, admitted: &Admitted) -> tokio::task::JoinHandle<()> {
    let redis = RedisOptions::sentinel(watch.urls(), Sentinel::MASTER)
        .deadline(Duration::from_millis(500))
        .on_store_error(OnStoreError::Reject);
    let window = WindowSizeSeconds::try_from(WINDOW.as_secs()).unwrap();
    let limiter = RateLimiter::builder().window_size_seconds(window).redis(redis).build().unwrap();
    let (rate, admitted) = (RateLimit::try_from(CAPACITY as f64).unwrap(), admitted.clone());
    tokio::spawn(async move {
        loop {
            let sent = Instant::now();
            let decision = match is_hybrid {
                true => limiter.hybrid().absolute().inc("key", &rate, 1).await,
                false => limiter.redis().absolute().inc("key", &rate, 1).await,
            };
            if decision.is_ok_and(|decision| decision.is_allowed()) {
                admitted.lock().unwrap().push((sent, Instant::now()));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    })
}

/// The most admissions that lie in one window for certain, of the requests sent from an instant on.
fn most(admitted: &Admitted, from: Instant) -> usize {
    let mut all: Vec<_> = admitted.lock().unwrap().iter().filter(|one| one.0 >= from).copied().collect();
    all.sort();
    let in_window = |start: &(Instant, Instant)| {
        let is_inside = |one: &&(Instant, Instant)| one.0 >= start.0 && one.1 < start.0 + WINDOW;
        all.iter().filter(is_inside).count()
    };
    all.iter().map(in_window).max().unwrap_or(0)
}

/// Three sentinels, two instances that are connected, and a third that starts after the failover.
fn fleet_follows(is_hybrid: bool) {
    let watch = Sentinel::start(Flavor::Debian, 3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let admitted = Admitted::default();
    let spawn = || {
        let _inside = runtime.enter();
        instance(&watch, is_hybrid, &admitted)
    };
    let mut fleet = vec![spawn(), spawn()];
    wait_until("two instances are served", || admitted.lock().unwrap().len() > 100);
    let before = Instant::now();
    // A sentinel that has just met its replica refuses for a moment.
    wait_until("the failover begins", || {
        watch.sentinels()[0].try_cli(&["SENTINEL", "FAILOVER", Sentinel::MASTER]).is_ok()
    });
    watch.wait_failover();
    let promoted = Instant::now();
    fleet.push(spawn());
    std::thread::sleep(HEARD_WITHIN + 3 * WINDOW);
    fleet.iter().for_each(tokio::task::JoinHandle::abort);
    let after = most(&admitted, promoted + HEARD_WITHIN);
    assert!(after <= CAPACITY as usize, "{after} of {CAPACITY} in a window, {HEARD_WITHIN:?} after");
    assert!(after > CAPACITY as usize / 2, "the limit is used: {after}");
    // What the failover itself loses: the old master's last counts, once.
    let during = most(&admitted, before);
    assert!(during <= 2 * CAPACITY as usize, "{during} of {CAPACITY} in a window");
    let clients = watch.servers()[0].cli(&["INFO", "replication"]);
    assert!(!clients.is_empty(), "the old master lives");
}

#[test]
fn a_fleet_on_redis_follows_a_planned_failover() {
    fleet_follows(false);
}

#[test]
fn a_fleet_on_hybrid_follows_a_planned_failover() {
    fleet_follows(true);
}

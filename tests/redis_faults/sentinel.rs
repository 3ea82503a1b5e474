//! A master that its sentinels replace.

use std::time::Duration;

use tower_weir::RedisOptions;

use crate::fault_scenario::{Course, Report};
use crate::support::servers::{Flavor, Sentinel};

pub(crate) const FAULTS: &[fn(Duration) -> Report] = &[replaced];

fn replaced(deadline: Duration) -> Report {
    let watch = Sentinel::start(Flavor::Debian, 1);
    // What the replica did not get yet is lost.
    let course = Course { keeps: false, ..Course::new("sentinel failover", deadline) };
    let redis = || RedisOptions::sentinel(watch.urls(), Sentinel::MASTER);
    // No earlier than the course has seen what it wants to.
    let later = (course.lasts + Duration::from_secs(2)).as_millis().to_string();
    for sentinel in watch.sentinels() {
        sentinel.cli(&["SENTINEL", "SET", Sentinel::MASTER, "down-after-milliseconds", &later]);
    }
    let replaced = || {
        watch.wait_failover();
    };
    course.run(redis, || watch.servers()[0].kill(), replaced)
}

#[test]
fn a_master_is_replaced() {
    replaced(crate::DEADLINE).print();
}

//! What becomes of requests while Redis fails: every one is answered, in time, and by the policy.
//!
//! Each fault meets a running flow of requests, of the engine's calls and through a layer, under each policy. The
//! bounds on time are generous, because a machine may be busy. This command shows the figures of a quiet machine:
//!
//! ```text
//! cargo test --features redis-tokio,redis-cluster,redis-sentinel --test redis_faults -- --ignored --nocapture
//! ```
#![cfg(all(
    unix,
    feature = "middleware",
    feature = "redis-tokio",
    feature = "redis-cluster",
    feature = "redis-sentinel"
))]
#![allow(clippy::unwrap_used)]

mod bounds;
mod cancelled;
mod client;
mod cluster;
mod failover;
mod fault_scenario;
mod log;
mod lost_replies;
#[cfg(feature = "metrics")]
mod metrics;
mod proxies;
mod returns;
mod runtimes;
mod scripts;
mod sentinel;
mod single;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod workload;

use std::time::Duration;

/// What the stores are given for a decision. Longer than the default, so that a machine that is busy with other
/// tests is not taken for a fault.
const DEADLINE: Duration = Duration::from_millis(100);

/// Each fault under the default deadline, one after the other; prints latencies and recoveries.
#[test]
#[ignore = "a report for a quiet machine"]
fn report() {
    println!("{}", fault_scenario::Report::HEAD);
    let deadline = Duration::from_millis(50);
    let faults = single::FAULTS.iter().chain(cluster::FAULTS).chain(sentinel::FAULTS);
    for fault in faults {
        fault(deadline).print();
    }
}

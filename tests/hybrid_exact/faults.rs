//! Instances and Redis that fail, under load.

use std::time::Duration;

use tower_weir::OnStoreError;

use crate::processes::{Crew, Pace, Plan};
use crate::record::{Outcome, Record};
use crate::support::ledger::{Ledger, now};
use crate::support::servers::{Flavor, Server};

const PROCESSES: usize = 4;
/// Units in a second.
const LIMIT: u64 = 100;
const INTERVAL: Duration = Duration::from_millis(50);
const POLICIES: [OnStoreError; 2] = [OnStoreError::Reject, OnStoreError::LocalShare];
/// A full window, after which all is as usual.
const BEFORE: Duration = Duration::from_millis(1_500);
const LASTS: Duration = Duration::from_secs(2);
/// Redis serves every instance again after this, on a busy machine too.
const RECOVERY: Duration = Duration::from_millis(2_250);
/// A machine that stands still for less than this fails no test.
const STALL: Duration = Duration::from_secs(1);

fn plan(server: &Server) -> Plan {
    Plan {
        url: server.url(),
        limit: LIMIT,
        window_seconds: 1,
        interval_ms: INTERVAL.as_millis() as u64,
        tolerance: 0.0,
        deadline: Duration::from_millis(100),
        policies: POLICIES.into(),
        pace: Pace::Poisson,
        offered: vec![4.0 * LIMIT as f64 / PROCESSES as f64; PROCESSES],
        duration: Duration::ZERO,
        is_mortal: false,
    }
}

/// How long the load goes on after a fault and the recovery: a burst and the next one lie within it, whatever their
/// phase.
fn afterwards(plan: &Plan) -> Duration {
    (plan.period() + STALL) * 2
}

/// The most that was admitted in a window between two instants.
fn most(records: &[Record], plan: &Plan, from: u64, to: u64) -> u64 {
    let within = records.iter().filter(|record| record.outcome.is_admitted() && record.is_within(from, to));
    Ledger(within.map(Record::admission).collect()).most_within(plan.window())
}

/// The units that are an instance's while Redis is gone.
fn part(plan: &Plan) -> u64 {
    plan.capacity() / PROCESSES as u64
}

/// Fails unless the limit is in full use from an instant to the end.
///
/// The load is a multiple of the limit, so that each burst fills a window, and the next one follows when its units
/// leave. No instant of this is asserted: one window is full, whichever it is, and no pause is much longer than one.
/// The parts count, too: if the machine delays calls beyond their deadline, a burst is the parts'.
fn check_use(name: &str, records: &[Record], plan: &Plan, from: u64, end: u64) {
    let is_late = |record: &&Record| record.outcome.is_admitted() && record.sent >= from;
    let late: Vec<Record> = records.iter().filter(is_late).copied().collect();
    let part = most(&late, plan, from, u64::MAX) as f64 / plan.capacity() as f64;
    let mut instants: Vec<u64> = late.iter().map(|record| record.received).chain([from, end]).collect();
    instants.sort_unstable();
    let pause = instants.windows(2).map(|pair| Duration::from_nanos(pair[1] - pair[0])).max().unwrap();
    println!("{name}: {part:.3} of the limit used in the fullest window after it, longest pause {pause:?}");
    assert!(part >= 0.9, "{name}: only {part:.3} of the limit was used in any window after it");
    assert!(pause <= plan.period() + STALL, "{name}: nothing was admitted for {pause:?}");
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

#[test]
fn an_instance_that_is_killed_takes_only_its_units_along_and_not_for_long() {
    let server = Server::start(Flavor::Debian);
    let mut plan = Plan { policies: vec![OnStoreError::Reject], is_mortal: true, ..plan(&server) };
    // Redis is there all the time, so that only a machine that stands still makes a call fail.
    plan.deadline = Duration::from_secs(1);
    // It has half of what there is, and the others ask for more than that.
    plan.offered = vec![390.0, 130.0, 130.0, 130.0];
    // A window, its lease and a period's rest after it.
    let (killed_at, settled) = (Duration::from_secs(2), Duration::from_millis(1_500));
    plan.duration = killed_at + settled + afterwards(&plan);
    let mut crew = plan.start();
    crew.wait(killed_at);
    crew.kill(0);
    let (from, end) = (now() + nanos(settled), crew.end);
    let all = crew.finish();
    let dead = all.last().unwrap().iter().filter(|record| record.outcome.is_admitted()).count();
    let records: Vec<Record> = all.into_iter().flatten().collect();
    let most = most(&records, &plan, 0, u64::MAX);
    println!("killed: {} requests, {dead} by the dead, at most {most}", records.len());
    assert!(dead as u64 >= LIMIT / 10, "it had admitted only {dead}");
    assert!(most <= LIMIT, "{most} in one window");
    let failed = records.iter().filter(|record| record.outcome == Outcome::Failed).count();
    assert!(failed * 10 <= records.len(), "{failed} of {} failed", records.len());
    check_use("killed", &records, &plan, from, end);
}

/// What is demanded of the records of a course.
struct Course<'a> {
    name: &'a str,
    /// Whether Redis has the same data afterwards.
    keeps: bool,
}

impl Course<'_> {
    /// Sends requests under each policy, and lets something happen to Redis meanwhile.
    fn run(&self, server: &Server, begin: impl FnOnce(), finish: impl FnOnce()) {
        let mut plan = plan(server);
        if !self.keeps {
            // It is not full by then, so that Redis is asked again at once, and what was lost counts for long.
            plan.window_seconds = 5;
        }
        let (before, lasts) = if self.keeps { (BEFORE, LASTS) } else { (Duration::from_secs(1), Duration::ZERO) };
        plan.duration = before + lasts + RECOVERY + afterwards(&plan);
        let crew = plan.start();
        crew.wait(before);
        let began = now();
        begin();
        crew.wait(before + lasts);
        finish();
        let ended = now();
        self.check(&plan, crew, began, ended);
    }

    fn check(&self, plan: &Plan, crew: Crew, began: u64, ended: u64) {
        let end = crew.end;
        let all = crew.finish();
        assert_eq!(all.len(), PROCESSES);
        for (flow, policy) in POLICIES.into_iter().enumerate() {
            let name = format!("{} {policy:?}", self.name);
            let of = |records: &Vec<Record>| -> Vec<Record> {
                records.iter().filter(|record| usize::from(record.flow) == flow).copied().collect()
            };
            let instances: Vec<Vec<Record>> = all.iter().map(of).collect();
            let records: Vec<Record> = instances.iter().flatten().copied().collect();
            self.check_bounds(&name, policy, &records, plan, began, ended);
            for instance in &instances {
                check_part(&name, instance, plan);
            }
            check_policy(&name, policy, &records);
            if self.keeps {
                check_outage(&name, policy, &records, began, ended);
            }
            let slowest = records.iter().map(Record::latency).max().unwrap();
            let most = most(&records, plan, 0, u64::MAX);
            println!("{name}: {} requests, at most {most} in a window, slowest {slowest:?}", records.len());
            assert!(records.len() > 1_000, "{name}: {} requests", records.len());
            let recovered = ended + nanos(RECOVERY);
            check_use(&name, &records, plan, recovered, end);
            for instance in &instances {
                check_recovery(&name, instance, recovered);
            }
        }
    }

    /// Never too much: without a loss of data ever, else but for the window of the loss.
    fn check_bounds(&self, name: &str, policy: OnStoreError, records: &[Record], plan: &Plan, began: u64, ended: u64) {
        let capacity = plan.capacity();
        let parts = if policy == OnStoreError::LocalShare { part(plan) * PROCESSES as u64 } else { 0 };
        // All of it may be forgotten, but every instance comes soon, and brings back what it has admitted.
        let lost = if self.keeps { 0 } else { capacity / 4 };
        // What was lent before it is spent, what the parts have admitted has left, and all have come back.
        let after = ended + nanos(plan.window() + RECOVERY);
        // A call that a busy machine delays beyond the deadline is decided by the part, whatever Redis does.
        let strays = |from: u64, to: u64| {
            let since = from.saturating_sub(nanos(plan.window()));
            let is_stray = |record: &&Record| {
                record.outcome == Outcome::ShareAdmitted && record.received >= since && record.sent <= to
            };
            records.iter().filter(is_stray).count() as u64
        };
        for (from, to, bound) in [
            (0, began, capacity + strays(0, began)),
            (0, u64::MAX, capacity + parts + lost),
            (after, u64::MAX, capacity + strays(after, u64::MAX)),
        ] {
            let most = most(records, plan, from, to);
            assert!(most <= bound, "{name}: {most} of {bound} in one window");
        }
        if policy == OnStoreError::Reject && !self.keeps {
            // A window after the restart all that counts was decided on by the new one.
            let most = most(records, plan, ended + nanos(plan.window()), u64::MAX);
            assert!(most <= capacity, "{name}: {most} in one window, long after the loss");
        }
    }
}

/// What an instance's part admits fits beside all that it has itself admitted in the window before.
fn check_part(name: &str, records: &[Record], plan: &Plan) {
    let window = nanos(plan.window());
    for last in records.iter().filter(|record| record.outcome == Outcome::ShareAdmitted) {
        let is_before = |record: &&Record| {
            record.outcome.is_admitted() && record.received <= last.sent && record.sent + window >= last.received
        };
        let count = records.iter().filter(is_before).count() as u64 + 1;
        assert!(count <= part(plan), "{name}: {count} of a part of {}", part(plan));
    }
}

/// Redis decided, or else the policy.
fn check_policy(name: &str, policy: OnStoreError, records: &[Record]) {
    let (shares, fails) = (policy == OnStoreError::LocalShare, policy == OnStoreError::Reject);
    for record in records {
        let is_allowed = match record.outcome {
            Outcome::ShareAdmitted | Outcome::ShareRefused => shares,
            Outcome::Failed => fails,
            _ => true,
        };
        assert!(is_allowed, "{name}: {record:?}");
    }
}

/// Redis decides again for the instance, but for what a busy machine delays.
fn check_recovery(name: &str, records: &[Record], recovered: u64) {
    let late: Vec<_> = records.iter().filter(|record| record.sent >= recovered).collect();
    let by_redis = late.iter().filter(|record| record.outcome.is_by_redis()).count();
    assert!(by_redis > 50 && by_redis * 2 > late.len(), "{name}: Redis decided only {by_redis} of {}", late.len());
}

/// While Redis was gone the policy decided, and the parts were alive.
fn check_outage(name: &str, policy: OnStoreError, records: &[Record], began: u64, ended: u64) {
    let during: Vec<_> = records.iter().filter(|record| record.is_within(began, ended)).collect();
    let unserved = during.iter().filter(|record| !record.outcome.is_by_redis()).count();
    assert!(unserved > 50, "{name}: only {unserved} of {} were decided without Redis", during.len());
    let admitted = during.iter().filter(|record| record.outcome == Outcome::ShareAdmitted).count() as u64;
    assert!(policy == OnStoreError::Reject || admitted >= LIMIT / 2, "{name}: the parts admitted only {admitted}");
}

#[test]
fn a_server_that_stands_still_and_goes_on_has_lost_nothing() {
    let server = Server::start(Flavor::Debian);
    Course { name: "stopped", keeps: true }.run(&server, || server.pause(), || server.resume());
}

#[test]
fn a_server_that_is_killed_and_keeps_its_data_has_lost_nothing() {
    // With the default it may answer before it writes.
    let server = Server::start_with(Flavor::Debian, &["--appendonly", "yes", "--appendfsync", "no"]);
    Course { name: "killed, data kept", keeps: true }.run(&server, || server.kill(), || server.restart());
}

#[test]
fn a_server_that_forgets_all_is_told_by_its_instances() {
    let server = Server::start(Flavor::Debian);
    // At once: what was lent before is still being spent.
    Course { name: "killed, data lost", keeps: false }.run(&server, || server.restart(), || {});
}

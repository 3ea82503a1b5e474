//! The course of a fault: traffic, the fault, its end, and what is demanded of the records.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RedisOptions};

use crate::bounds;
use crate::log::Log;
use crate::support::servers::{SlowProxy, wait_until};
use crate::traffic::{By, Keys, Record, Surface, quantile};
use crate::workload::{POLICIES, Site};

/// The sites are served again by then; they are within about a second on a quiet machine.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A fault and what is particular about it.
pub(crate) struct Course<'a> {
    pub(crate) name: &'static str,
    pub(crate) deadline: Duration,
    /// Whether Redis answers before the fault.
    pub(crate) is_well: bool,
    /// Whether Redis has the same data after it.
    pub(crate) keeps: bool,
    /// How long the fault lasts. It is zero if `begin` also ends the fault.
    pub(crate) lasts: Duration,
    /// Whether the breaker opens.
    pub(crate) opens: bool,
    /// What counts connections and commands.
    pub(crate) proxy: Option<&'a SlowProxy>,
}

/// What a fault did to those who asked.
pub(crate) struct Report {
    name: &'static str,
    during: [Duration; 3],
    later: [Duration; 3],
    recovery: Duration,
    requests: usize,
}

impl Course<'_> {
    pub(crate) const LASTING: Duration = Duration::from_millis(2_800);

    pub(crate) fn new(name: &'static str, deadline: Duration) -> Self {
        Self { name, deadline, is_well: true, keeps: true, lasts: Self::LASTING, opens: true, proxy: None }
    }

    /// The time until the breakers are open: at most five deadlines, and a second for a busy machine.
    fn settling(&self) -> Duration {
        self.deadline * 5 + Duration::from_secs(1)
    }

    /// Runs it against three sites with traffic.
    pub(crate) fn run(self, redis: impl Fn() -> RedisOptions, begin: impl FnOnce(), end: impl FnOnce()) -> Report {
        let sites = POLICIES.map(|policy| Site::new(redis(), policy, self.deadline));
        for site in &sites {
            site.flow(2, Surface::Engine, &Keys::Hot);
            site.flow(2, Surface::Engine, &Keys::Fresh);
            site.flow(2, Surface::Layer, &Keys::Hot);
            site.flow(1, Surface::Layer, &Keys::Fresh);
        }
        if self.is_well {
            wait_until("all sites are served", || sites.iter().all(Site::is_served));
            sleep(Duration::from_millis(300));
            Site::clear_logs(&sites);
        }
        let began = Instant::now();
        begin();
        let settled = began + self.settling();
        let cost = self.watch(began, settled);
        // Some may be served before the end of the fault is known here.
        let ending = Instant::now();
        end();
        let ended = Instant::now();
        // Whoever judges by what came lately must not judge by what came before.
        sleep(Duration::from_millis(250));
        let is_back = |site: &Site| site.is_served() && site.log.is_balanced();
        while !sites.iter().all(is_back) {
            assert!(ended.elapsed() < BACK_WITHIN, "{}: {:?} after its end", self.name, ended.elapsed());
            sleep(Duration::from_millis(10));
        }
        let served = Instant::now();
        sleep(Duration::from_millis(300));
        if let Some([connections, pieces]) = cost {
            // Of all three; a probe is two decisions, and a connection has its own greeting.
            assert!(connections <= 24 && pieces <= 90, "{}: {connections} and {pieces} while open", self.name);
        }
        let mut report = Report::new(self.name);
        let mut all = Vec::new();
        for site in sites {
            let (policy, log, records) = site.finish();
            bounds::check(self.name, policy, &records, self.keeps);
            self.check_log(policy, &log);
            if self.opens && !self.lasts.is_zero() {
                self.check_settled(policy, &records, settled, ending);
            }
            let unserved = records.iter().filter(|record| matches!(record.by, By::Share | By::Nobody));
            let last = unserved.map(|record| record.received).max();
            report.recovery =
                report.recovery.max(last.map_or(Duration::ZERO, |last| last.saturating_duration_since(ended)));
            let until = if self.lasts.is_zero() { served } else { ended };
            all.extend(records.into_iter().filter(|record| record.received >= began && record.sent <= until));
        }
        report.fill(&all, settled);
        report
    }

    /// Lets the fault last; the connections and commands after all have settled.
    fn watch(&self, began: Instant, settled: Instant) -> Option<[usize; 2]> {
        sleep(settled.min(began + self.lasts).saturating_duration_since(Instant::now()));
        let count = || self.proxy.map(|proxy| [proxy.accepted(), proxy.pieces()]);
        let before = count();
        sleep((began + self.lasts).saturating_duration_since(Instant::now()));
        let (before, after) = (before?, count()?);
        Some([after[0] - before[0], after[1] - before[1]])
    }

    /// One line when Redis is lost and one when it is back.
    fn check_log(&self, policy: OnStoreError, log: &Log) {
        for code in ["redis-lost", "redis-back"] {
            let lines = log.count(code).unwrap_or(usize::from(self.opens));
            assert_eq!(lines, usize::from(self.opens), "{} {policy:?}: lines of {code}", self.name);
        }
    }

    /// While the breaker is open nobody waits, nobody asks Redis, and the policy is alive.
    fn check_settled(&self, policy: OnStoreError, records: &[Record], from: Instant, to: Instant) {
        let settled: Vec<Record> = records.iter().filter(|record| record.is_within(from, to)).copied().collect();
        assert!(settled.len() > 50, "{} {policy:?}: {} requests", self.name, settled.len());
        let asked = settled.iter().filter(|record| record.by == By::Redis).count();
        assert_eq!(asked, 0, "{} {policy:?}: of {}", self.name, settled.len());
        let mut latencies: Vec<Duration> = settled.iter().map(Record::latency).collect();
        let most = quantile(&mut latencies, 0.9);
        assert!(most < self.deadline / 2, "{} {policy:?}: nine in ten within {most:?}", self.name);
        for surface in [Surface::Engine, Surface::Layer] {
            for key in [Keys::HOT, Keys::OTHER] {
                let of = settled.iter().filter(|record| record.surface == surface && record.key == key);
                let admitted = of.clone().filter(|record| record.is_admitted).count();
                match policy {
                    OnStoreError::Reject => assert_eq!(admitted, 0),
                    OnStoreError::Allow => assert_eq!(admitted, of.count()),
                    _ => assert!(admitted > 0, "{} {surface:?}: the share admits nothing", self.name),
                }
            }
        }
    }
}

impl Report {
    pub(crate) const HEAD: &str = "fault                     |  while it settles: p50     p99     max |  later: p50     p99     max | recovery | requests";

    pub(crate) fn new(name: &'static str) -> Self {
        let none = [Duration::ZERO; 3];
        Self { name, during: none, later: none, recovery: Duration::ZERO, requests: 0 }
    }

    pub(crate) fn recovered_after(&mut self, recovery: Duration) {
        self.recovery = recovery;
    }

    /// Counts the requests of the fault, before and after all has settled.
    pub(crate) fn fill(&mut self, records: &[Record], settled: Instant) {
        let (later, during): (Vec<Record>, _) = records.iter().partition(|record| record.sent >= settled);
        let quantiles = |records: Vec<Record>| {
            let mut latencies: Vec<Duration> = records.iter().map(Record::latency).collect();
            [0.5, 0.99, 1.0].map(|part| quantile(&mut latencies, part))
        };
        (self.during, self.later, self.requests) = (quantiles(during), quantiles(later), records.len());
    }

    pub(crate) fn print(&self) {
        let millis = |times: [Duration; 3]| times.map(|time| format!("{:7.2}", time.as_secs_f64() * 1e3)).join(" ");
        let recovery = self.recovery.as_secs_f64() * 1e3;
        let (during, later) = (millis(self.during), millis(self.later));
        println!("{:25} | {during:>36} | {later:>27} | {recovery:5.0} ms | {}", self.name, self.requests);
    }
}

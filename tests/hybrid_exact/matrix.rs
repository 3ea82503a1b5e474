//! Limits, windows, intervals and loads, and how exactly they are held.

use std::time::Duration;

use tower_weir::OnStoreError;

use crate::processes::{Pace, Plan};
use crate::record::{Outcome, Record};
use crate::support::ledger::Ledger;
use crate::support::oracle;
use crate::support::servers::{Flavor, Server};

/// One row: how much is offered, by whom, and of what.
#[derive(Clone, Copy, Debug)]
struct Row {
    processes: usize,
    limit: u64,
    window_seconds: u64,
    interval_ms: u64,
    load: Load,
    is_skewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// So many times the limit.
    Times(f64),
    /// As much as there can be.
    Flood,
}

/// What a row showed.
#[derive(Debug)]
struct Measured {
    capacity: u64,
    /// The most units in one window.
    peak: u64,
    /// Of what one exact limiter would have admitted of the same requests.
    share: f64,
    refused: f64,
    /// The part of the requests that were refused although one exact limiter would have admitted them: in the median of
    /// the periods after the first. Around a stall of the machine leases lie idle, which the median leaves out.
    in_vain: f64,
    calls_per_second: f64,
    requests: usize,
    /// Those that Redis had not decided on within a second, on a machine that is too busy.
    failed: usize,
    latencies: [Duration; 3],
}

impl Row {
    const fn new(processes: usize, limit: u64, interval_ms: u64, load: Load) -> Self {
        Self { processes, limit, window_seconds: 1, interval_ms, load, is_skewed: false }
    }

    const fn skewed(self) -> Self {
        Self { is_skewed: true, ..self }
    }

    fn name(&self) -> String {
        let load = match self.load {
            Load::Times(times) => format!("{times}x"),
            Load::Flood => "flood".to_owned(),
        };
        let kind = if self.is_skewed { "skewed" } else { "even" };
        let Self { processes, limit, window_seconds, interval_ms, .. } = self;
        format!("{processes} | {limit}/s | W={window_seconds}s | {interval_ms}ms | {load} | {kind}")
    }

    /// What each process offers in a second; skewed, the second half of what the first does, the third a third.
    fn offered(&self) -> Vec<f64> {
        let Load::Times(times) = self.load else { return vec![0.0; self.processes] };
        let weight = |process: usize| if self.is_skewed { 1.0 / (process + 1) as f64 } else { 1.0 };
        let sum: f64 = (0..self.processes).map(weight).sum();
        (0..self.processes).map(|process| times * self.limit as f64 * weight(process) / sum).collect()
    }

    fn measure(&self, least: Duration) -> Measured {
        let server = Server::start(Flavor::Debian);
        let mut plan = Plan {
            url: server.url(),
            limit: self.limit,
            window_seconds: self.window_seconds,
            interval_ms: self.interval_ms,
            tolerance: 0.0,
            deadline: Duration::from_secs(1),
            policies: vec![OnStoreError::Reject],
            pace: if self.load == Load::Flood { Pace::Flood } else { Pace::Poisson },
            offered: self.offered(),
            duration: Duration::ZERO,
            is_mortal: false,
        };
        // Whole periods, so that there is room for a full window in each.
        let periods = least.div_duration_f64(plan.period()).ceil().max(2.0);
        plan.duration = plan.period().mul_f64(periods);
        let crew = plan.start();
        crew.wait(Duration::ZERO);
        let start = crew.start;
        let records: Vec<Record> = crew.finish().into_iter().flatten().collect();
        let stats = server.commandstats();
        let calls: u64 = ["eval", "evalsha"].iter().filter_map(|name| stats.get(*name)).sum();
        let failed = records.iter().filter(|record| record.outcome == Outcome::Failed).count();
        let admitted = records.iter().filter(|record| record.outcome.is_admitted());
        let arrivals = records.iter().map(|record| record.sent).collect();
        let exact = oracle::admits(arrivals, plan.capacity(), plan.period());
        let mut ledger = Ledger(admitted.map(Record::admission).collect());
        let period = u64::try_from(plan.period().as_nanos()).unwrap();
        let in_vain = |number: u64| {
            let is_within = |sent: u64| sent.checked_sub(start).is_some_and(|after| after / period == number);
            let count = |instants: &mut dyn Iterator<Item = u64>| instants.filter(|sent| is_within(*sent)).count();
            let admitted = count(&mut ledger.0.iter().map(|admission| admission.sent));
            let refused = count(&mut exact.iter().copied()).saturating_sub(admitted);
            refused as f64 / count(&mut records.iter().map(|record| record.sent)).max(1) as f64
        };
        let mut vain: Vec<f64> = (1..periods as u64).map(in_vain).collect();
        vain.sort_unstable_by(f64::total_cmp);
        let in_vain = vain[vain.len() / 2];
        let mut latencies: Vec<Duration> = records.iter().map(Record::latency).collect();
        latencies.sort_unstable();
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
        Measured {
            capacity: plan.capacity(),
            peak: ledger.most_within(plan.window()),
            // A call that fails may have been charged.
            share: (ledger.units() as f64 + failed as f64) / exact.len() as f64,
            refused: (records.len() - ledger.0.len()) as f64 / records.len() as f64,
            in_vain,
            calls_per_second: calls as f64 / plan.duration.as_secs_f64(),
            requests: records.len(),
            failed,
            latencies: [at(0.5), at(0.99), at(1.0)],
        }
    }
}

impl Measured {
    const HEAD: &str = "| processes | limit | window | interval | load | shares | most in a window | use | refused | \
                        calls/s | p50 µs | p99 µs | max ms |\n|--|--|--|--|--|--|--|--|--|--|--|--|--|";

    fn line(&self, row: &Row) -> String {
        let [p50, p99, max] = self.latencies.map(|latency| latency.as_secs_f64() * 1e6);
        let (peak, capacity, calls) = (self.peak, self.capacity, self.calls_per_second);
        let used = if row.load == Load::Times(0.8) { "-".to_owned() } else { format!("{:.3}", self.share) };
        let refused = if row.load == Load::Flood { "-".to_owned() } else { format!("{:.2} %", self.refused * 1e2) };
        let mark = match self.failed {
            _ if peak > capacity => " OVER".to_owned(),
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!(
            "| {} | {peak}/{capacity}{mark} | {used} | {refused} | {calls:.0} | {p50:.1} | {p99:.0} | {:.1} |",
            row.name(),
            max / 1e3
        )
    }
}

/// A few rows of the matrix, which is [`report`]'s.
#[test]
fn processes_together_admit_what_the_limit_says() {
    let rows = [
        Row::new(4, 10, 10, Load::Times(10.0)),
        Row::new(16, 100, 100, Load::Times(10.0)).skewed(),
        Row::new(4, 1_000, 10, Load::Times(4.0)),
        Row::new(4, 10_000, 100, Load::Times(4.0)).skewed(),
        Row::new(4, 1_000, 100, Load::Flood),
        Row::new(4, 1_000, 100, Load::Times(0.8)).skewed(),
        Row::new(16, 1_000, 10, Load::Times(0.8)),
    ];
    println!("{}", Measured::HEAD);
    for row in rows {
        // Long enough for a median of periods, where that is judged.
        let seconds = if row.load == Load::Times(0.8) { 6 } else { 3 };
        let measured = row.measure(Duration::from_secs(seconds));
        println!("{}", measured.line(&row));
        let name = row.name();
        assert!(measured.requests > 10 && measured.failed * 10 <= measured.requests, "{name}: {measured:?}");
        assert!(measured.peak <= measured.capacity, "{name}: {measured:?}");
        match row.load {
            Load::Times(times) if times < 1.0 => assert!(measured.in_vain <= 0.05, "{name}: {measured:?}"),
            _ => assert!(measured.share >= 0.9, "{name}: {measured:?}"),
        }
    }
}

/// The whole matrix, or a part of it; see the head of the file.
#[test]
#[ignore = "a report for a quiet machine"]
fn report() {
    let seconds = std::env::var("WEIR_MATRIX_SECONDS").map_or(3.0, |seconds| seconds.parse().unwrap());
    let words = std::env::var("WEIR_MATRIX_ROWS").unwrap_or_default();
    println!("{}", Measured::HEAD);
    let mut over = 0;
    for row in all() {
        let name = format!(" {} ", row.name());
        if !words.split_whitespace().all(|word| name.contains(&format!(" {word} "))) {
            continue;
        }
        let measured = row.measure(Duration::from_secs_f64(seconds));
        println!("{}", measured.line(&row));
        over += usize::from(measured.peak > measured.capacity);
    }
    assert_eq!(over, 0, "rows in which more was admitted than the limit");
}

fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for window_seconds in [1, 10] {
        for interval_ms in [10, 100] {
            for processes in [4, 16] {
                for limit in [10, 100, 1_000, 10_000] {
                    let over = if limit < 10_000 { 10.0 } else { 4.0 };
                    for load in [0.8, 1.0, over].map(Load::Times) {
                        let row = Row { window_seconds, ..Row::new(processes, limit, interval_ms, load) };
                        rows.extend([row, row.skewed()]);
                    }
                    rows.push(Row { window_seconds, ..Row::new(processes, limit, interval_ms, Load::Flood) });
                }
            }
        }
    }
    rows
}

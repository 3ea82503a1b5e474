//! What would this rate limit have done to my traffic? Replays an access log on a virtual clock.
//!
//! ```text
//! cargo run --release --example weir-replay --features serde -- --limit 100/min access.log
//! cargo run --release --example weir-replay --features serde -- --limit '10/s;1000/h' --html report.html access.log*
//! cargo run --release --example weir-replay --features serde -- --policy examples/policy.toml access.log
//! cargo run --release --example weir-replay --features serde -- --help
//! ```
//!
//! It is no model of the limiter. A limit is replayed on a [`RateLimiter`](tower_weir::RateLimiter) with a
//! [`ManualClock`](tower_weir::ManualClock), and a policy on the layer that a service would have.
//!
//! The modules in the order in which a log passes through them: `input` reads blocks of lines, `format` and `key` read
//! their fields, `batch` collects them, `trace` keeps all requests, `limit` and `policy_file` replay them, and `tally`
//! counts. Then `search` looks for the smallest limit, and `report` writes the results.

mod args;
mod batch;
mod format;
mod generate;
mod input;
mod interner;
mod key;
mod limit;
mod policy;
mod policy_file;
mod report;
mod routes;
mod search;
mod tally;
mod trace;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use foldhash::fast::RandomState;
use indicatif::{ProgressBar, ProgressStyle};

use self::args::{Plan, Task};
use self::batch::Wanted;
use self::policy::Policy;
use self::report::{Replay, Report};
use self::trace::Trace;

fn main() -> ExitCode {
    let done = match args::task() {
        Task::Replay(plan) => replay(*plan),
        Task::Generate(lines) => generate::log(lines).map_err(|error| format!("cannot write the log: {error}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("weir-replay: {message}");
            ExitCode::FAILURE
        }
    }
}

fn replay(plan: Plan) -> Result<(), String> {
    let bar = bar(&plan.input.files);
    let wanted = Wanted { columns: plan.columns, times: plan.times, hasher: RandomState::default() };
    let trace = input::read(&plan.input, &wanted, plan.spread, &bar);
    bar.finish_and_clear();
    let trace = trace?;
    if trace.len() == 0 {
        let bad = trace.notes.bad.first().map(|bad| format!("; line {}: {}", bad.line, bad.reason));
        return Err(format!("the log has no requests to replay{}", bad.unwrap_or_default()));
    }

    let steps = spinner();
    steps.set_message("replaying");
    let mut replays = replay_all(plan.policies, &trace)?;
    if plan.target.is_some() || plan.html.is_some() {
        for replay in &mut replays {
            steps.set_message(format!("replaying {} with other limits", replay.policy.name()));
            replay.curve = Some(search::curve(&replay.policy, &trace, &replay.tally, plan.target)?);
        }
    }
    steps.finish_and_clear();

    let report = Report { trace: &trace, files: &plan.input.files, replays: &replays, rows: plan.rows };
    if let Some(path) = &plan.html {
        std::fs::write(path, report::page(&report)).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    // A closed pipe, such as that of `head`, is no failure.
    match io::stdout().write_all(report::text(&report).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the report: {error}")),
        _ => Ok(()),
    }
}

/// Replays all policies, in several threads.
fn replay_all(policies: Vec<Policy>, trace: &Trace) -> Result<Vec<Replay>, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(policies.len());
    let mut tallies: Vec<_> = policies.iter().map(|_| None).collect();
    let work = Mutex::new(policies.iter().zip(&mut tallies));
    let next = || work.lock().map_or(None, |mut work| work.next());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((policy, tally)) = next() {
                    *tally = Some(policy.replay(trace));
                }
            });
        }
    });
    let replayed = policies.into_iter().zip(tallies).map(|(policy, tally)| {
        let tally = tally.unwrap_or_else(|| Err("a replay was not finished".into()))?;
        Ok(Replay { policy, tally, curve: None })
    });
    replayed.collect()
}

/// The progress of reading. It is shown only on a terminal.
fn bar(files: &[String]) -> ProgressBar {
    let sizes: Option<u64> = files.iter().map(|file| std::fs::metadata(file).ok().map(|data| data.len())).sum();
    let bar = match sizes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    let template = match sizes {
        Some(_) => "reading {wide_bar} {bytes} of {total_bytes}, {eta} left",
        None => "reading {bytes}",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

//! The parts of a run, and which of them are wanted.

use std::future::Future;

use crate::memory::Weights;
use crate::positions::Positions;
use crate::race::{ROUNDS, Race, Scenario, Settings, Standing};
use crate::report::{Failure, Report, provenance};
use crate::server::Server;
use crate::shedding::Shedding;
use crate::{engines, flood, hybrid_store, layers, redis_store, summary, tails};

const PARTS: [&str; 9] = ["local", "layer", "memory", "positions", "shedding", "flood", "tails", "redis", "hybrid"];

/// Runs what the arguments select; see the documentation of the program.
pub fn run(mut args: Vec<String>) -> Result<(), Failure> {
    let writes = args.first().is_some_and(|arg| arg == "--write");
    args.drain(..usize::from(writes));
    if let Some(option) = args.iter().find(|arg| arg.starts_with('-')) {
        return Err(format!("unknown option {option}; the only one is --write, as the first argument").into());
    }
    let (parts, titles): (Vec<_>, Vec<_>) = args.into_iter().partition(|arg| PARTS.contains(&arg.as_str()));
    if writes && !titles.is_empty() {
        return Err("--write replaces whole sections, so it takes names of parts and no titles".into());
    }
    let (settings, report) = (Settings::from_env()?, Report::new(writes));
    let wants = |part: &str| parts.iter().any(|name| name == part) || (parts.is_empty() && titles.is_empty());
    let scaled = if settings.scale == 1.0 { String::new() } else { format!(", SCALE={}", settings.scale) };
    let rounds = |default| format!("{} rounds{scaled}", settings.rounds(default));
    let once = format!("one run{scaled}");

    let local = if wants("local") { races(engines::SCENARIOS, &[], &settings) } else { Vec::new() };
    if !local.is_empty() {
        report.section("local", &format!("{}\n\n{}", provenance(&rounds(ROUNDS)), engines::table(&local)))?;
        report.plot("speed", &summary::plot(&local))?;
    }
    if wants("layer") {
        let layers = races(layers::SCENARIOS, &[], &settings);
        report.section("layer", &format!("{}\n\n{}", provenance(&rounds(ROUNDS)), layers::table(&layers)))?;
    }
    if !titles.is_empty() {
        println!("\n{}", engines::table(&races(engines::SCENARIOS, &titles, &settings)));
        println!("{}", layers::table(&races(layers::SCENARIOS, &titles, &settings)));
    }
    if wants("memory") {
        let weights = Weights::measure()?;
        report.section("memory", &format!("{}\n\n{}", provenance("one run"), weights.text()))?;
        report.plot("memory", &weights.plot())?;
        if !local.is_empty() {
            report.section("summary", &summary::table(&local, &weights).to_string())?;
        }
    }
    if wants("positions") {
        let positions = Positions::measure();
        report.section("positions", &format!("{}\n\n{}", provenance("one run"), positions.table()))?;
        report.plot("positions", &positions.plot())?;
    }
    if wants("shedding") {
        let shedding = Shedding::measure();
        report.section("shedding", &format!("{}\n\n{}", provenance("one run"), shedding.table()))?;
        report.plot("shedding", &shedding.plot_admitted())?;
        report.plot("pauses", &shedding.plot_pauses())?;
    }
    if wants("flood") {
        report.section("flood", &format!("{}\n\n{}", provenance(&once), flood::measure()?))?;
    }
    if wants("tails") {
        let table = tails::measure(&settings);
        report.section("tails", &format!("{}\n\n{table}", provenance(&rounds(tails::ROUNDS))))?;
    }
    let remote = ["redis", "hybrid"].map(wants);
    if remote.contains(&true) {
        match Server::binary() {
            Some(binary) => run_remote(remote, &binary, &settings, &report)?,
            None if parts.is_empty() => println!("\nredis and hybrid are left out: {}", Server::ABSENT),
            None => return Err(Server::ABSENT.into()),
        }
    }
    Ok(())
}

/// Runs the scenarios whose titles contain one of the filters; all of them without a filter.
fn races(scenarios: &[Scenario], filters: &[String], settings: &Settings) -> Vec<Standing> {
    let is_wanted = |title: &str| filters.is_empty() || filters.iter().any(|filter| title.contains(filter.as_str()));
    let wanted = scenarios.iter().filter(|(title, _)| is_wanted(title));
    let race = |(title, build): &Scenario| {
        println!("{title} ..");
        build(Race::new(title)).run(settings)
    };
    wanted.map(race).collect()
}

fn run_remote(wanted: [bool; 2], binary: &str, settings: &Settings, report: &Report) -> Result<(), Failure> {
    let [wants_redis, wants_hybrid] = wanted;
    if wants_redis {
        on_two_threads(redis_store::run(binary, settings, report))?;
    }
    if wants_hybrid {
        on_two_threads(hybrid_store::run(binary, settings, report))?;
    }
    Ok(())
}

fn on_two_threads(part: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(part)
}

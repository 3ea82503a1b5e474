//! The parts of a run, and which of them are wanted.

use std::future::Future;
use std::pin::Pin;

use crate::memory::Weights;
use crate::overload::Overload;
use crate::positions::Positions;
use crate::race::{ROUNDS, Race, Scenario, Settings, Standing};
use crate::report::{Failure, Report};
use crate::server::Server;
use crate::shedding::Shedding;
use crate::{engines, flood, hybrid_store, layers, outage, redis_store, summary, tails};

type Part = (&'static str, fn(&mut Run) -> Result<(), Failure>);

/// In the order in which they run.
const PARTS: &[Part] = &[
    ("local", Run::local),
    ("layer", Run::layer),
    ("memory", Run::memory),
    ("positions", Run::positions),
    ("shedding", Run::shedding),
    ("overload", Run::overload),
    ("flood", Run::flood),
    ("tails", Run::tails),
    ("redis", |run| run.with_server(|binary, settings, report| Box::pin(redis_store::run(binary, settings, report)))),
    ("hybrid", |run| run.with_server(|binary, settings, report| Box::pin(hybrid_store::run(binary, settings, report)))),
    ("outage", |run| run.with_server(|binary, settings, report| Box::pin(outage::run(binary, settings, report)))),
];

/// Runs what the arguments select; see the documentation of the program.
pub fn run(mut args: Vec<String>) -> Result<(), Failure> {
    let writes = args.first().is_some_and(|arg| arg == "--write");
    args.drain(..usize::from(writes));
    if let Some(option) = args.iter().find(|arg| arg.starts_with('-')) {
        return Err(format!("unknown option {option}; the only one is --write, as the first argument").into());
    }
    let is_part = |arg: &String| PARTS.iter().any(|(part, _)| part == arg);
    let (wanted, titles): (Vec<_>, Vec<_>) = args.into_iter().partition(is_part);
    if writes && !titles.is_empty() {
        return Err("--write replaces whole sections, so it accepts names of parts and no titles".into());
    }
    let (settings, report) = (Settings::from_env()?, Report::new(writes));
    let mut run = Run { settings, report, needs_server: !wanted.is_empty(), local: Vec::new() };
    if !titles.is_empty() {
        println!("\n{}", engines::table(&run.races(engines::SCENARIOS, &titles)));
        println!("{}", layers::table(&run.races(layers::SCENARIOS, &titles)));
    }
    let all = wanted.is_empty() && titles.is_empty();
    for (name, part) in PARTS {
        if all || wanted.iter().any(|wanted| wanted == name) {
            part(&mut run)?;
        }
    }
    Ok(())
}

struct Run {
    settings: Settings,
    report: Report,
    /// Whether a missing server is an error. Without names of parts, its parts are left out instead.
    needs_server: bool,
    /// The results of the part local, for the summary.
    local: Vec<Standing>,
}

/// A part that needs a server: the program of the server, the settings and the report.
type Remote = for<'a> fn(&'a str, &'a Settings, &'a Report) -> Running<'a>;
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

impl Run {
    fn local(&mut self) -> Result<(), Failure> {
        self.local = self.races(engines::SCENARIOS, &[]);
        self.report.section("local", &self.rounds(ROUNDS), engines::table(&self.local))?;
        self.report.plot("speed", &summary::plot(&self.local))
    }

    fn layer(&mut self) -> Result<(), Failure> {
        let table = layers::table(&self.races(layers::SCENARIOS, &[]));
        self.report.section("layer", &self.rounds(ROUNDS), table)
    }

    fn memory(&mut self) -> Result<(), Failure> {
        let weights = Weights::measure()?;
        self.report.section("memory", "one run", weights.text())?;
        self.report.plot("memory", &weights.plot())?;
        // The README has figures of both parts, or keeps its own.
        if self.local.is_empty() { Ok(()) } else { self.report.summary(summary::table(&self.local, &weights)) }
    }

    fn positions(&mut self) -> Result<(), Failure> {
        let positions = Positions::measure();
        self.report.section("positions", "one run", positions.table())?;
        self.report.plot("positions", &positions.plot())
    }

    fn shedding(&mut self) -> Result<(), Failure> {
        let shedding = Shedding::measure();
        self.report.section("shedding", "one run", shedding.table())?;
        self.report.plot("shedding", &shedding.plot_admitted())?;
        self.report.plot("pauses", &shedding.plot_pauses())
    }

    fn overload(&mut self) -> Result<(), Failure> {
        let overload = Overload::measure()?;
        self.report.section("overload", "one run", overload.table())?;
        self.report.plot("overload", &overload.plot())
    }

    fn flood(&mut self) -> Result<(), Failure> {
        self.report.section("flood", &format!("one run{}", self.scaled()), flood::measure()?)
    }

    fn tails(&mut self) -> Result<(), Failure> {
        self.report.section("tails", &self.rounds(tails::ROUNDS), tails::measure(&self.settings))
    }

    fn with_server(&mut self, part: Remote) -> Result<(), Failure> {
        match Server::binary() {
            Some(binary) => {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(part(&binary, &self.settings, &self.report))
            }
            None if self.needs_server => Err(Server::ABSENT.into()),
            None => {
                println!("\nThis part is left out: {}", Server::ABSENT);
                Ok(())
            }
        }
    }

    /// Runs the scenarios whose titles contain one of the filters; all of them without a filter.
    fn races(&self, scenarios: &[Scenario], filters: &[String]) -> Vec<Standing> {
        let is_wanted =
            |title: &str| filters.is_empty() || filters.iter().any(|filter| title.contains(filter.as_str()));
        let race = |(title, build): &Scenario| {
            println!("{title} ..");
            build(Race::new(title)).run(&self.settings)
        };
        scenarios.iter().filter(|(title, _)| is_wanted(title)).map(race).collect()
    }

    fn rounds(&self, default: usize) -> String {
        format!("{} rounds{}", self.settings.rounds(default), self.scaled())
    }

    fn scaled(&self) -> String {
        if self.settings.scale == 1.0 { String::new() } else { format!(", SCALE={}", self.settings.scale) }
    }
}

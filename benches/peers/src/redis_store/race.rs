//! Rounds of laps, and the tables of them.

use std::time::Duration;

use super::contestants::{GCRA_SCRIPT, ONE_CALL, SCRIPT_ALONE, THREE_CALLS, TRYPEMA, WEIR, WEIR_ASKING};
use crate::drive::{Entrant, Lap, Load};
use crate::figures::{Figures, ratio, time};
use crate::report::{Failure, Table, version};
use crate::server::{Server, Stats};

/// The laps of every entrant under one load.
pub struct Race {
    pub load: Load,
    laps: Vec<(&'static str, Vec<(Lap, Stats)>)>,
}

impl Race {
    pub async fn run(
        server: &Server,
        entrants: &[Entrant],
        load: Load,
        rounds: usize,
        time: Duration,
    ) -> Result<Self, Failure> {
        let mut laps: Vec<_> = entrants.iter().map(|entrant| (entrant.name, Vec::with_capacity(rounds))).collect();
        for round in 0..rounds {
            for turn in 0..entrants.len() {
                let at = (round + turn) % entrants.len();
                server.reset_stats().await?;
                let lap = entrants[at].lap(load, time).await?;
                laps[at].1.push((lap, server.stats().await?));
            }
        }
        Ok(Self { load, laps })
    }

    fn rates(&self, name: &str) -> Option<Vec<f64>> {
        let (_, laps) = self.laps.iter().find(|(entrant, _)| *entrant == name)?;
        Some(laps.iter().map(|(lap, _)| lap.decisions as f64 / lap.elapsed.as_secs_f64()).collect())
    }

    /// The duration of decisions, and their cost on the server.
    pub fn details(&self) -> Table {
        let times = ["p50", "p99", "p99.9"];
        let costs = ["us in scripts per decision", "script calls per decision", "commands per decision"];
        let load = self.load.to_string();
        let mut table = Table::new(std::iter::once(load.as_str()).chain(times).chain(costs));
        for (name, laps) in &self.laps {
            let median = |figure: &dyn Fn(&(Lap, Stats)) -> f64| Figures::of(laps.iter().map(figure));
            let median =
                |figure: &dyn Fn(&(Lap, Stats)) -> f64| median(figure).map_or(f64::NAN, |rounds| rounds.median);
            let times = [0.5, 0.99, 0.999].map(|part| time(median(&|(lap, _)| lap.latencies.quantile(part))));
            let counts: [fn(&Stats) -> u64; 3] =
                [|stats| stats.script_micros, |stats| stats.scripts, |stats| stats.commands];
            let costs = counts
                .map(|count| format!("{:.2}", median(&|(lap, stats)| count(stats) as f64 / lap.decisions as f64)));
            table.row(std::iter::once((*name).to_owned()).chain(times).chain(costs));
        }
        table
    }
}

/// A row for each load: thousands of decisions in a second, and the ratio of this crate's to the peer's.
pub fn rates(races: &[Race]) -> Table {
    const COLUMNS: [&str; 7] = [WEIR, WEIR_ASKING, SCRIPT_ALONE, TRYPEMA, GCRA_SCRIPT, ONE_CALL, THREE_CALLS];
    let heads = COLUMNS.map(|name| if name == TRYPEMA { version(TRYPEMA) } else { name.into() });
    let ends = ["thousand decisions per second".to_owned(), "x trypema".to_owned()];
    let [first, last] = ends;
    let mut table = Table::new(std::iter::once(first).chain(heads).chain([last]));
    for race in races {
        let cell = |name| match race.rates(name) {
            Some(rates) => figures(&rates),
            None => "-".into(),
        };
        let compared = match (race.rates(WEIR), race.rates(TRYPEMA)) {
            (Some(own), Some(other)) => ratio(&own, &other),
            _ => "-".into(),
        };
        let load = race.load.to_string();
        table.row(std::iter::once(load).chain(COLUMNS.map(cell)).chain([compared]));
    }
    table
}

fn figures(rates: &[f64]) -> String {
    Figures::of(rates.iter().map(|rate| rate / 1e3)).map_or("-".into(), |figures| figures.cell())
}

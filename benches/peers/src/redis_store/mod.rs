//! tower-weir's Redis store beside `trypema`'s, and beside the least that one script costs.
//!
//! Every contestant has one multiplexed connection with `TCP_NODELAY`, and the tasks run on two threads. Each task asks
//! again as soon as it has its response, so with 64 tasks 64 questions are open at all times. Every limiter checks its
//! responses. The scripts of one and of three calls limit nothing; they show what there is to lose.

mod contestants;
mod memory;
mod race;

use std::time::Duration;

use self::race::Race;
use crate::drive::Load;
use crate::race::Settings;
use crate::report::{Failure, Report};
use crate::server::Server;

const ROUNDS: usize = 3;
/// The length of a lap.
const LAP: f64 = 0.25;

pub async fn run(binary: &str, settings: &Settings, report: &Report) -> Result<(), Failure> {
    let (rounds, lap) = (settings.rounds(ROUNDS), Duration::from_secs_f64(LAP * settings.scale));
    let server = Server::start(binary).await?;
    let how = format!("{rounds} rounds of {} s, {}", lap.as_secs_f64(), server.version().await?);
    let mut races = Vec::new();
    for keys in [1, 100_000] {
        for is_admitted in [true, false] {
            server.flush().await?;
            let entrants = contestants::all(&server, is_admitted, keys).await?;
            for tasks in [1, 64, 256] {
                let load = Load { tasks, keys, is_admitted, is_timed: true };
                println!("{load} ..");
                races.push(Race::run(&server, &entrants, load, rounds, lap).await?);
            }
        }
    }
    let rates = race::rates(&races);
    let details = races.iter().filter(|race| race.load.is_admitted && race.load.tasks == 64).map(Race::details);
    let details = details.map(|table| format!("\n{table}")).collect::<String>();
    report.section("redis", &how, format!("{rates}{details}"))?;
    report.section("redis-memory", &how, memory::measure(&server).await?)
}

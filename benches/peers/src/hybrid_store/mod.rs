//! tower-weir's hybrid store beside `trypema`'s: how fast, and how exact.
//!
//! `speed`: tasks on two threads that ask again as soon as they have a response, on keys drawn uniformly; all are
//! admitted. Times are measured in laps of their own, since reading the clock for each decision costs about a quarter
//! of one.
//!
//! `exact`: four instances, each with its own connection, share one key of 1000 units in a second. Requests arrive
//! evenly spaced, at more or less than that rate.

mod exact;
mod speed;

use std::time::Duration;

use crate::race::Settings;
use crate::report::{Failure, Report};
use crate::server::Server;

const ROUNDS: usize = 3;
/// The length of a lap. Leases grow during a lap.
const LAP: f64 = 2.0;

pub async fn run(binary: &str, settings: &Settings, report: &Report) -> Result<(), Failure> {
    let (rounds, lap) = (settings.rounds(ROUNDS), Duration::from_secs_f64(LAP * settings.scale));
    let server = Server::start(binary).await?;
    let redis = server.version().await?;
    let how = format!("{rounds} rounds of {} s, {redis}", lap.as_secs_f64());
    report.section("hybrid-speed", &how, speed::measure(&server, rounds, lap).await?)?;
    // The limiters of the first part may still return their leases.
    drop(server);
    let server = Server::start(binary).await?;
    let how = format!("one run of {} s for each row, {redis}", exact::SECONDS);
    report.section("hybrid-exact", &how, exact::measure(&server).await?)
}

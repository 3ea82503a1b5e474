//! tower-weir beside other rate limiters: `governor`, `trypema` and `tower_governor`, in one run.
//!
//! # How to run it
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--write] [part or title]..
//! ```
//!
//! Without a name, it runs all parts: local, layer, memory, positions, shedding, overload, flood, tails, redis, hybrid
//! and outage. A name that is no part selects the scenarios of local and layer whose titles contain it. With `--write`,
//! the results also replace the marked sections of BENCHMARKS.md and README.md, and the plots in docs/plots.
//!
//! The environment sets `ROUNDS` (each part has a default) and `SCALE`, by which the number of calls or keys and the
//! length of a lap are multiplied (default 1.0; 0.05 is enough to see that everything works). The parts redis, hybrid
//! and outage start `redis-server`, or what `REDIS_SERVER` names. Without a server they are left out, and their sections
//! stay as they are. Let nothing else run on the machine.
//!
//! # How to read it
//!
//! Within a scenario every contestant runs once in every round, in an order that rotates, so what disturbs the machine
//! disturbs all of them. A figure is the median of the rounds, with the least and the most. A ratio ("x governor") is
//! the median of the ratios in each round. Compare ratios, not nanoseconds. With two threads a figure is the time of a
//! call as its caller sees it. A `-` means that a contestant cannot do this, or was not measured.
//!
//! Every scenario checks its answers: where the title contains "admit" each call must be admitted, where it contains
//! "reject" or "refuse" none. Keys and requests are built before the clock starts.

mod admissions;
mod alloc;
mod child;
mod contestants;
mod drive;
mod engines;
mod figures;
mod flood;
mod histogram;
mod hybrid_store;
mod instances;
mod layers;
mod memory;
mod offer;
mod outage;
mod overload;
mod parts;
mod plot;
mod positions;
mod race;
mod redis_store;
mod report;
mod server;
mod shedding;
mod summary;
mod tails;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = env::args().skip(1).collect::<Vec<_>>();
    if let [flag, case] = &args[..]
        && flag == child::FLAG
    {
        return child::run(case, memory::cases().chain(flood::cases()).chain(outage::cases()));
    }
    match parts::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

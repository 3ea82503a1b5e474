//! tower-weir beside other rate limiters: `governor`, `trypema` and `tower_governor`, in one run.
//!
//! # How to run it
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [filter]..
//! ```
//!
//! Only the scenarios whose title contains one of the filters are run, all of them without a filter. The
//! environment sets `ROUNDS` (default 7) and `SCALE`, by which the number of calls in a round is multiplied
//! (default 1.0; 0.05 is enough to see that all works). Let nothing else run on the machine.
//!
//! # How to read it
//!
//! Within a scenario every contestant runs once in every round, in an order that rotates, so what disturbs
//! the machine disturbs all of them. A line gives the median of the rounds, in nanoseconds for one call, the
//! fastest and the slowest round, and the median as a multiple of another contestant's (`x governor`), or what
//! it adds to another's (`+ bare`). Compare ratios, not nanoseconds. The goal after a title says which ratio
//! matters. With two threads a figure is the time of a call as its caller sees it. A `-` stands for what a
//! contestant cannot do.
//!
//! Every scenario checks its answers: where the title says "admit" each call must be admitted, where it says
//! "reject" or "refuse" none. Keys and requests are built before the clock starts, and "keys alone" is what
//! the remaining work of the loop costs.
//!
//! Memory is measured in a process of its own for each contestant, as the live bytes that it asked the
//! allocator for, and as the growth of the resident set. `ROUNDS` and `SCALE` change nothing about it.

mod alloc;
mod contestants;
mod engines;
mod layers;
mod memory;
mod race;

use std::env;
use std::process::ExitCode;

use crate::race::Settings;

fn main() -> ExitCode {
    let filters = env::args().skip(1).collect::<Vec<_>>();
    if let [flag, case] = &filters[..]
        && flag == memory::CHILD_FLAG
    {
        return memory::child(case);
    }
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = |title: &str| filters.is_empty() || filters.iter().any(|filter| title.contains(filter.as_str()));
    println!("{} rounds, calls x {}", settings.rounds, settings.scale);
    for (title, build) in engines::SCENARIOS.iter().chain(layers::SCENARIOS) {
        if wanted(title) {
            build(race::Race::new(title)).run(&settings);
        }
    }
    for group in memory::GROUPS {
        if wanted(group.title) {
            group.run();
        }
    }
    ExitCode::SUCCESS
}

//! tower-weir's Redis store beside `trypema`'s, and beside what one script costs at least, in one run.
//!
//! # How to run it
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin redis -- [filter]..
//! ```
//!
//! It starts a `redis-server` of its own on a free loopback port; the environment names another binary in
//! `REDIS_SERVER`. Only the tables whose title contains one of the filters are made, all of them without a
//! filter. The environment also sets `ROUNDS` (default 5) and `SECONDS`, the length of a lap (default 1.0).
//! Let nothing else run on the machine.
//!
//! # How to read it
//!
//! Within a table every contestant runs for one lap in every round, in an order that rotates. Rates and times
//! are medians of the rounds, and the rate is followed by the slowest and the fastest round. Every contestant
//! has one multiplexed connection with `TCP_NODELAY`, and the tasks run on two threads. Each task asks again as
//! soon as it has its answer, so that with 64 tasks 64 questions are open at all times. The columns `x` are
//! ratios of rates.
//!
//! "script" is the server's time in scripts for one decision, by its own count; "calls" is how many script
//! calls a decision takes, and "commands" how many commands in all, with those that scripts make.
//!
//! Every limiter checks its answers: where the title says "allowed" each must be admitted, where it says
//! "rejected" none. The scripts of one and of three calls limit nothing; they show what there is to lose.

mod contestants;
mod drive;
mod memory;
mod server;
mod table;

use std::env;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use crate::drive::Load;
use crate::server::Server;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run()));
    if let Err(failure) = &result {
        eprintln!("redis: {failure}");
    }
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run() -> Result<(), Failure> {
    let filters = env::args().skip(1).collect::<Vec<_>>();
    let wanted = |title: &str| filters.is_empty() || filters.iter().any(|filter| title.contains(filter.as_str()));
    let rounds = read("ROUNDS", 5_usize)?.max(1);
    let lap = Duration::try_from_secs_f64(read("SECONDS", 1.0)?)?;

    let server = Server::start(&env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into())).await?;
    println!("{}; {rounds} rounds of {} s", server.version().await?, lap.as_secs_f64());
    for keys in [1, 100_000] {
        for is_admitted in [true, false] {
            let loads = [1, 64, 256].map(|tasks| Load { tasks, keys, is_admitted, is_timed: true });
            if loads.iter().any(|load| wanted(&load.to_string())) {
                server.flush().await?;
                let contestants = contestants::all(&server, is_admitted, keys).await?;
                for load in loads.iter().filter(|load| wanted(&load.to_string())) {
                    table::race(&server, &contestants, *load, rounds, lap).await?;
                }
            }
        }
    }
    if wanted(memory::TITLE) {
        memory::measure(&server).await?;
    }
    Ok(())
}

fn read<T: FromStr>(name: &str, default: T) -> Result<T, Failure> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} must be a number, and is {text:?}").into()),
        Err(_) => Ok(default),
    }
}

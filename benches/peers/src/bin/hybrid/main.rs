//! tower-weir's hybrid store beside `trypema`'s, in one run: how fast, and how exact.
//!
//! # How to run it
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin hybrid -- [speed] [exact]
//! ```
//!
//! It starts a `redis-server` of its own on a free loopback port; the environment names another binary in
//! `REDIS_SERVER`, and sets `ROUNDS` (default 5) and `SECONDS`, the length of a lap (default 1.0). Let nothing
//! else run on the machine.
//!
//! # How to read it
//!
//! "speed": tasks on two threads that ask again as soon as they have an answer, on keys drawn uniformly; all are
//! admitted. Rates are medians of the rounds, with the slowest and the fastest. Times are taken in laps of their
//! own, since reading the clock for each decision costs about a quarter of one.
//!
//! "exact": four instances, each with its own connection, share one key of 1000 units in a second, and are offered
//! more or less than that, evenly spaced. "peak" is the most that was certainly admitted within one second, sent and
//! answered; "used" is what was admitted of what there was room for, after the first second; "refused" is the part
//! that was refused.

#[path = "../redis/drive.rs"]
mod drive;
mod exact;
#[path = "../redis/server.rs"]
mod server;
mod speed;

use std::env;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use crate::server::Server;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run()));
    if let Err(failure) = &result {
        eprintln!("hybrid: {failure}");
    }
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run() -> Result<(), Failure> {
    let filters = env::args().skip(1).collect::<Vec<_>>();
    let wanted = |title: &str| filters.is_empty() || filters.iter().any(|filter| title == filter);
    let rounds = read("ROUNDS", 5_usize)?.max(1);
    let lap = Duration::try_from_secs_f64(read("SECONDS", 1.0)?)?;
    let server = Server::start(&env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into())).await?;
    println!("{}; {rounds} rounds of {} s", server.version().await?, lap.as_secs_f64());
    if wanted("speed") {
        for keys in [1, 100_000] {
            server.flush().await?;
            speed::race(&server, keys, rounds, lap).await?;
        }
    }
    if wanted("exact") {
        exact::race(&server).await?;
    }
    Ok(())
}

fn read<T: FromStr>(name: &str, default: T) -> Result<T, Failure> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} must be a number, and is {text:?}").into()),
        Err(_) => Ok(default),
    }
}

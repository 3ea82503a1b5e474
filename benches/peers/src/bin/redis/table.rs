//! Rounds, and the table of them.

use std::time::Duration;

use crate::Failure;
use crate::drive::{Entrant, Lap, Load};
use crate::server::{Server, Stats};

const ONE_CALL: &str = "EVALSHA of one call";
const THREE_CALLS: &str = "EVALSHA of three calls";
const TRYPEMA: &str = "trypema";

/// Runs all rounds and prints a table.
pub async fn race(
    server: &Server,
    entrants: &[Entrant],
    load: Load,
    rounds: usize,
    time: Duration,
) -> Result<(), Failure> {
    let mut laps = entrants.iter().map(|_| Vec::with_capacity(rounds)).collect::<Vec<Vec<(Lap, Stats)>>>();
    for round in 0..rounds {
        for turn in 0..entrants.len() {
            let at = (round + turn) % entrants.len();
            server.reset_stats().await?;
            let lap = entrants[at].lap(load, time).await?;
            laps[at].push((lap, server.stats().await?));
        }
    }
    println!("\n### {load}\n");
    print!("| | decisions/s | min .. max | x trypema | x one call | x three calls | p50 us | p99 us | p99.9 us ");
    println!("| script us | calls | commands |\n|---|{}", "--:|".repeat(11));
    let rates = laps.iter().map(|laps| median(laps, rate)).collect::<Vec<_>>();
    for ((entrant, laps), own) in entrants.iter().zip(&laps).zip(&rates) {
        let all = laps.iter().map(rate);
        let (min, max) = all.fold((f64::MAX, 0.0_f64), |(min, max), rate| (min.min(rate), max.max(rate)));
        print!("| {} | {own:.0} | {min:.0} .. {max:.0} ", entrant.name);
        for name in [TRYPEMA, ONE_CALL, THREE_CALLS] {
            let other = entrants.iter().position(|entrant| entrant.name == name).map_or(f64::NAN, |at| rates[at]);
            print!("| {:.2} ", own / other);
        }
        for part in [0.5, 0.99, 0.999] {
            print!("| {:.1} ", median(laps, |(lap, _)| lap.latencies.quantile(part)));
        }
        let counts: [fn(&Stats) -> u64; 3] =
            [|stats| stats.script_micros, |stats| stats.scripts, |stats| stats.commands];
        for count in counts {
            print!("| {:.3} ", median(laps, |(lap, stats)| count(stats) as f64 / lap.decisions as f64));
        }
        println!("|");
    }
    Ok(())
}

fn rate((lap, _): &(Lap, Stats)) -> f64 {
    lap.decisions as f64 / lap.elapsed.as_secs_f64()
}

fn median(laps: &[(Lap, Stats)], figure: impl Fn(&(Lap, Stats)) -> f64) -> f64 {
    let mut figures = laps.iter().map(figure).collect::<Vec<_>>();
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[half] } else { (figures[half - 1] + figures[half]) / 2.0 }
}

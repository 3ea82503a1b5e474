//! How long the slowest calls take while keys come and go.
//!
//! Two threads ask for a thousand hot keys, and with every twentieth call for a key that is new. The window is one
//! second, so most keys are idle soon, and the cleanup runs all the time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use crate::contestants::{AsKey, Engine, Governor, Limit, Nothing, Trypema, WeirText, renumber};
use crate::figures::{grouped, time};
use crate::flood::clean_each_second;
use crate::histogram::Histogram;
use crate::race::Settings;
use crate::report::{Table, version};

const THREADS: u32 = 2;
pub const ROUNDS: usize = 3;
/// The calls of a thread in a round.
const CALLS: u64 = 4_000_000;
const HOT: u32 = 1_000;
const NEW_EVERY: u64 = 20;

/// Runs one round, the number of which makes its keys new.
type Lap = Box<dyn Fn(u64, u32) -> Histogram>;

pub fn measure(settings: &Settings) -> Table {
    let contestants: [(String, Lap); 4] = [
        ("tower-weir".into(), lap::<WeirText<false>>()),
        (version("governor"), lap::<Governor<String>>()),
        (version("trypema"), lap::<Trypema<false>>()),
        ("two clock reads, no limiter".into(), lap::<Nothing>()),
    ];
    let mut sums = contestants.each_ref().map(|_| Histogram::default());
    for round in 0..settings.rounds(ROUNDS) {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            sums[at].add(&(contestants[at].1)(settings.scaled(CALLS), round as u32));
        }
    }
    let mut table = Table::new(["2 threads", "calls", "p50", "p99", "p99.9", "p99.99", "longest"]);
    for ((name, _), sum) in contestants.into_iter().zip(&sums) {
        let quantiles = [0.5, 0.99, 0.999, 0.9999].map(|part| time(sum.quantile(part)));
        let ends = [name, grouped(sum.calls())];
        table.row(ends.into_iter().chain(quantiles).chain([time(sum.longest())]));
    }
    table
}

fn lap<E: Engine<Key = String>>() -> Lap {
    let engine = E::new(Limit::churning(1));
    let hot: Vec<String> = (0..HOT).map(|key| String::numbered(u32::MAX - key)).collect();
    Box::new(move |calls, round| {
        let (is_over, mut sum) = (AtomicBool::new(false), Histogram::default());
        thread::scope(|scope| {
            let (engine, hot) = (&engine, &hot);
            let threads = (0..THREADS).map(|thread| scope.spawn(move || one_thread(engine, hot, calls, round, thread)));
            let threads: Vec<_> = threads.collect();
            scope.spawn(|| clean_each_second(engine, &is_over));
            threads.into_iter().for_each(|thread| sum.add(&thread.join().expect("a call panicked")));
            is_over.store(true, Relaxed);
        });
        sum
    })
}

fn one_thread(engine: &impl Engine<Key = String>, hot: &[String], calls: u64, round: u32, thread: u32) -> Histogram {
    let mut latencies = Histogram::default();
    let mut rng = fastrand::Rng::with_seed(u64::from(thread));
    let (mut new, mut next) = (String::numbered(0), (round * THREADS + thread).wrapping_mul(50_000_000));
    for call in 0..calls {
        let key = if call % NEW_EVERY == 0 {
            renumber(&mut new, next);
            next = next.wrapping_add(1);
            &new
        } else {
            &hot[rng.usize(..hot.len())]
        };
        let asked = Instant::now();
        engine.admits(key);
        latencies.note(asked.elapsed());
    }
    latencies
}

//! What each limiter admits in every position of the window, for the same bursts of requests.

use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use governor::clock::FakeRelativeClock;
use tower_weir::{ManualClock, RateLimit, RateLimiter};
use trypema::RateLimiterBuilder as _;
use trypema::local::LocalRateLimiterProvider;

use crate::plot::{Guide, Line, Lines, PURPLE, Panel, RED, Shape, color};
use crate::report::{Table, version};

const LIMIT: u32 = 100;
const WINDOW_MS: u32 = 1_000;
const END_MS: u32 = 8_000;
/// The distance between two window positions of the plot.
const STEP_MS: u32 = 10;

/// Who admitted, and when, in milliseconds.
struct Admissions {
    name: String,
    times: Vec<u32>,
}

pub struct Positions(Vec<Admissions>);

impl Positions {
    pub fn measure() -> Self {
        let arrivals = arrivals();
        let of = |name: String, times: Vec<u32>| Admissions { name, times };
        Self(vec![
            of("tower-weir".into(), admitted(&arrivals, weir())),
            of(version("governor"), admitted(&arrivals, governor())),
            of(version("trypema"), trypema(&arrivals)),
            of("fixed window".into(), admitted(&arrivals, fixed_window())),
            of("exact log".into(), admitted(&arrivals, exact_log())),
        ])
    }

    pub fn table(&self) -> Table {
        let heads = ["limit: 100 units in a second", "most in any second", "positions above the limit", "admitted"];
        let mut table = Table::new(heads);
        for Admissions { name, times } in &self.0 {
            let positions = positions(times);
            let above = positions.iter().filter(|&&(_, units)| units > f64::from(LIMIT)).count();
            let above = format!("{:.0} %", 100.0 * above as f64 / positions.len() as f64);
            table.row([name.clone(), most_within_a_window(times).to_string(), above, times.len().to_string()]);
        }
        table
    }

    pub fn plot(&self) -> String {
        let colors = [color("tower-weir"), color("governor"), color("trypema"), PURPLE];
        let lines = self.0.iter().zip(colors).enumerate().map(|(at, (admissions, color))| Line {
            name: admissions.name.clone(),
            color,
            points: positions(&admissions.times),
            width: if at == 0 { 2.5 } else { 1.5 },
            shape: Shape::Steps,
        });
        let end = f64::from(END_MS - WINDOW_MS) / 1_000.0;
        let limit = f64::from(LIMIT);
        let panel = Panel {
            axis: ("units in the window", 210.0),
            guides: vec![Guide { name: "limit", color: RED, ends: [(0.0, limit), (end, limit)], label: None }],
            lines: lines.collect(),
            ..Panel::default()
        };
        Lines {
            title: "Units admitted in every window of one second",
            description: "The line of tower-weir never rises above the limit of 100 units. The lines of the other \
                          limiters rise above it.",
            axis: ("start of the window in seconds", end),
            panels: vec![panel],
        }
        .draw(620.0, 350.0)
    }
}

/// Bursts after pauses, both of random lengths: the times of requests in milliseconds.
fn arrivals() -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut arrivals, mut now) = (Vec::new(), 0);
    loop {
        now += rng.u32(40..700);
        let spacing = rng.u32(1..6);
        for _ in 0..rng.u32(20..150) {
            arrivals.push(now);
            now += rng.u32(0..spacing);
        }
        if now >= END_MS {
            arrivals.retain(|&at| at < END_MS);
            return arrivals;
        }
    }
}

fn admitted(arrivals: &[u32], mut admits: impl FnMut(u32) -> bool) -> Vec<u32> {
    arrivals.iter().copied().filter(|&at| admits(at)).collect()
}

fn weir() -> impl FnMut(u32) -> bool {
    let clock = ManualClock::new();
    let builder = RateLimiter::builder().window_size_seconds(1.try_into().expect("a valid window"));
    let limiter = builder.clock(clock.clone()).build().expect("consistent options");
    let rate = RateLimit::try_from(f64::from(LIMIT)).expect("a valid rate");
    move |at| {
        clock.set_ms(100_000 + u64::from(at));
        limiter.local().absolute().inc("key", &rate, 1).is_allowed()
    }
}

/// Its burst is the limit.
fn governor() -> impl FnMut(u32) -> bool {
    let clock = FakeRelativeClock::default();
    let limit = NonZeroU32::new(LIMIT).expect("a limit above 0");
    let limiter = governor::RateLimiter::direct_with_clock(governor::Quota::per_second(limit), clock.clone());
    let mut now = 0;
    move |at| {
        clock.advance(Duration::from_millis(u64::from(at - now)));
        now = at;
        limiter.check().is_ok()
    }
}

/// As it is by default. Its clock cannot be moved, so the requests come in real time.
fn trypema(arrivals: &[u32]) -> Vec<u32> {
    let builder = LocalRateLimiterProvider::builder().window_size(trypema::WindowSize::seconds_or_panic(1));
    let provider = builder.build().expect("consistent options");
    let rate = trypema::RateLimit::per_second_or_panic(f64::from(LIMIT));
    let start = Instant::now();
    let asks = |at: &u32| {
        let due = start + Duration::from_millis(u64::from(*at));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = start.elapsed().as_millis() as u32;
        let decision = provider.absolute().inc("key", &rate, 1);
        matches!(decision, trypema::RateLimitDecision::Allowed).then_some(asked)
    };
    arrivals.iter().filter_map(asks).collect()
}

/// A counter for each second, which is what many limiters are.
fn fixed_window() -> impl FnMut(u32) -> bool {
    let (mut second, mut used) = (0, 0);
    move |at| {
        if at / WINDOW_MS != second {
            (second, used) = (at / WINDOW_MS, 0);
        }
        used += 1;
        used <= LIMIT
    }
}

/// All admissions, which is as much as any limiter may admit request by request.
fn exact_log() -> impl FnMut(u32) -> bool {
    let mut log: Vec<u32> = Vec::new();
    move |at| {
        let used = log.iter().rev().take_while(|&&before| before + WINDOW_MS > at).count();
        let fits = used < LIMIT as usize;
        if fits {
            log.push(at);
        }
        fits
    }
}

/// The start of each window in seconds, and the units in it.
fn positions(times: &[u32]) -> Vec<(f64, f64)> {
    let within = |start: u32| {
        let upto = |end: u32| times.partition_point(|&at| at < end);
        (f64::from(start) / 1_000.0, (upto(start + WINDOW_MS) - upto(start)) as f64)
    };
    (0..=END_MS - WINDOW_MS).step_by(STEP_MS as usize).map(within).collect()
}

/// A fullest window begins with an admission.
fn most_within_a_window(times: &[u32]) -> usize {
    let within = |(at, &start): (usize, &u32)| times.partition_point(|&time| time < start + WINDOW_MS) - at;
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

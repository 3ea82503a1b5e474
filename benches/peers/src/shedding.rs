//! What is admitted of an overload, by the absolute and by the suppressed strategy.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tower_weir::{ManualClock, RateLimit, RateLimiter};
use trypema::RateLimiterBuilder as _;
use trypema::local::LocalRateLimiterProvider;

use crate::plot::{BLUE, GREEN, GREY, Guide, Line, Lines, ORANGE, Panel, RED, Shape};
use crate::report::{Table, version};

/// How far the suppressed strategy may go above the limit.
const HARD: f64 = 1.5;
/// The offered loads as multiples of the limit.
const LOADS: [f64; 13] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0];

/// The horizontal axis of the plots.
const LOAD: (&str, f64) = ("offered load, as a multiple of the limit", 4.0);

/// What a contestant admits of each load, as a multiple of the limit, and its longest pause in milliseconds.
struct Admitted {
    name: String,
    loads: [Watch; LOADS.len()],
}

pub struct Shedding(Vec<Admitted>);

impl Shedding {
    pub fn measure() -> Self {
        Self(vec![
            Admitted { name: "tower-weir, absolute".into(), loads: LOADS.map(|load| weir(load, false)) },
            Admitted { name: "tower-weir, suppressed".into(), loads: LOADS.map(|load| weir(load, true)) },
            Admitted { name: format!("{}, suppressed", version("trypema")), loads: trypema() },
        ])
    }

    pub fn table(&self) -> Table {
        let heads = LOADS.map(|load| load.to_string());
        let mut table = Table::new(std::iter::once("offered, as a multiple of the limit".to_owned()).chain(heads));
        for Admitted { name, loads } in &self.0 {
            let cells = loads.each_ref().map(|watch| format!("{:.2}", watch.rate()));
            table.row(std::iter::once(format!("{name}: admitted")).chain(cells));
        }
        for Admitted { name, loads } in &self.0 {
            let cells = loads.each_ref().map(|watch| format!("{:.0}", watch.longest_pause));
            table.row(std::iter::once(format!("{name}: longest pause in ms")).chain(cells));
        }
        table
    }

    pub fn plot_admitted(&self) -> String {
        let panel = Panel {
            axis: ("admitted load", 2.0),
            guides: vec![
                Guide { name: "hard cap", color: RED, ends: [(0.0, HARD), (4.0, HARD)], label: Some((3.5, 1.54)) },
                Guide { name: "everything", color: GREY, ends: [(0.0, 0.0), (2.0, 2.0)], label: Some((1.95, 1.8)) },
            ],
            lines: self.lines(Watch::rate),
            ..Panel::default()
        };
        Lines {
            title: "Admitted part of an overload, as a multiple of the limit",
            description: "Up to the limit, everything is admitted. Above it, the admitted load stays at the limit.",
            axis: LOAD,
            panels: vec![panel],
        }
        .draw(760.0, 360.0)
    }

    pub fn plot_pauses(&self) -> String {
        let panel = Panel {
            axis: ("longest pause in ms", 1_000.0),
            lines: self.lines(|watch| watch.longest_pause),
            ..Panel::default()
        };
        Lines {
            title: "Longest pause without an admission, limit of 200 units in a second",
            description: "The pauses of the absolute strategy grow with the load. The suppressed strategy of tower-weir \
                          admits all the time.",
            axis: LOAD,
            panels: vec![panel],
        }
        .draw(760.0, 360.0)
    }

    fn lines(&self, figure: impl Fn(&Watch) -> f64) -> Vec<Line> {
        // The two lines of tower-weir can coincide, so the wide one lies below.
        let styled = self.0.iter().zip([(ORANGE, 1.5), (BLUE, 5.0), (GREEN, 1.5)]);
        let line = |(Admitted { name, loads }, (color, width)): (&Admitted, _)| Line {
            name: name.clone(),
            color,
            points: LOADS.into_iter().zip(loads.iter().map(&figure)).collect(),
            width,
            shape: Shape::Marked,
        };
        styled.map(line).collect()
    }
}

/// Counts admissions after two seconds, in which the demand is learned.
#[derive(Clone, Copy)]
struct Watch {
    /// The units of the limit in the time of watching.
    room: f64,
    admitted: u32,
    /// In milliseconds.
    latest: f64,
    longest_pause: f64,
}

impl Watch {
    const FROM_MS: f64 = 2_000.0;

    fn new(room: f64) -> Self {
        Self { room, admitted: 0, latest: Self::FROM_MS, longest_pause: 0.0 }
    }

    fn admit(&mut self, now_ms: f64) {
        if now_ms >= Self::FROM_MS {
            self.admitted += 1;
            self.longest_pause = self.longest_pause.max(now_ms - self.latest);
            self.latest = now_ms;
        }
    }

    fn rate(&self) -> f64 {
        f64::from(self.admitted) / self.room
    }
}

/// Two hundred units in a second, for ten seconds.
fn weir(load: f64, is_suppressed: bool) -> Watch {
    const PER_MS: f64 = 0.2;
    let clock = ManualClock::new();
    let builder = RateLimiter::builder().window_size_seconds(1.try_into().expect("a valid window"));
    let builder = builder.hard_limit_factor(HARD.try_into().expect("a valid factor"));
    let limiter = builder.clock(clock.clone()).build().expect("consistent options");
    let rate = RateLimit::try_from(1_000.0 * PER_MS).expect("a valid rate");
    let (mut asked, mut watch) = (0, Watch::new(10_000.0 * PER_MS));
    for ms in 0..12_000_u32 {
        clock.set_ms(100_000 + u64::from(ms));
        while f64::from(asked) < f64::from(ms) * PER_MS * load {
            asked += 1;
            let is_admitted = match is_suppressed {
                true => limiter.local().suppressed().inc("key", &rate, 1).is_allowed(),
                false => limiter.local().absolute().inc("key", &rate, 1).is_allowed(),
            };
            if is_admitted {
                watch.admit(ms.into());
            }
        }
    }
    watch
}

/// The same limit for a key of each load, in real time, because its clock cannot be moved.
fn trypema() -> [Watch; LOADS.len()] {
    const PER_SECOND: f64 = 200.0;
    const SECONDS: f64 = 4.0;
    let provider: Arc<LocalRateLimiterProvider> = LocalRateLimiterProvider::builder()
        .window_size(trypema::WindowSize::seconds_or_panic(1))
        .hard_limit_factor(trypema::HardLimitFactor::new_or_panic(HARD))
        .build()
        .expect("consistent options");
    let rate = trypema::RateLimit::per_second_or_panic(PER_SECOND);
    let (mut asked, mut watches) = ([0; LOADS.len()], [Watch::new(PER_SECOND * SECONDS); LOADS.len()]);
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 2.0 + SECONDS {
        for (at, load) in LOADS.iter().enumerate() {
            let elapsed = start.elapsed().as_secs_f64();
            while f64::from(asked[at]) < elapsed * PER_SECOND * load {
                asked[at] += 1;
                use trypema::RateLimitDecision::{Allowed, Suppressed};
                let decision = provider.suppressed().inc(&load.to_string(), &rate, 1);
                let is_admitted = matches!(decision, Allowed | Suppressed { is_allowed: true, .. });
                if is_admitted {
                    watches[at].admit(1_000.0 * elapsed);
                }
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    watches
}

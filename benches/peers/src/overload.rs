//! Both strategies under a load that rises above the limit and falls again, in real time.

use std::thread;
use std::time::{Duration, Instant};

use tower_weir::{RateLimit, RateLimiter};

use crate::admissions::Admissions;
use crate::figures::Figures;
use crate::plot::{BLUE, Guide, INK, LIGHT, Line, Lines, ORANGE, PURPLE, Panel, RED, Shape};
use crate::report::{Failure, Table};

const LIMIT: f64 = 200.0;
/// How far the suppressed strategy may go above the limit.
const HARD: f64 = 1.5;
/// When the first load begins, so that the first window is full at time 0.
const BEGIN: f64 = -1.0;
/// Until when, in seconds, each load is offered, as a multiple of the limit.
const LOADS: [(f64, f64); 3] = [(3.0, 0.5), (9.0, 3.0), (12.0, 0.5)];
const END: f64 = LOADS[2].0;
/// The time after which the demand of a load is known.
const LEARNED: f64 = 2.0;
/// The step of time of the plot.
const STEP: f64 = 0.1;

/// The requests of one run, and those that each strategy admitted.
pub struct Overload {
    offered: Admissions,
    absolute: Admissions,
    suppressed: Admissions,
}

impl Overload {
    pub fn measure() -> Result<Self, Failure> {
        let builder = RateLimiter::builder().window_size_seconds(1.try_into()?);
        let limiter = builder.hard_limit_factor(HARD.try_into()?).build()?;
        let rate = RateLimit::try_from(LIMIT)?;
        let (mut offered, mut absolute, mut suppressed) = (Vec::new(), Vec::new(), Vec::new());
        let start = Instant::now();
        let now = || BEGIN + start.elapsed().as_secs_f64();
        for due in arrivals() {
            thread::sleep(Duration::from_secs_f64((due - now()).max(0.0)));
            offered.push((now(), now()));
            let asked = now();
            if limiter.local().absolute().inc("absolute", &rate, 1).is_allowed() {
                absolute.push((asked, now()));
            }
            let asked = now();
            if limiter.local().suppressed().inc("suppressed", &rate, 1).is_allowed() {
                suppressed.push((asked, now()));
            }
        }
        let [offered, absolute, suppressed] = [offered, absolute, suppressed].map(Admissions::new);
        Ok(Self { offered, absolute, suppressed })
    }

    pub fn table(&self) -> Table {
        let [(rises, _), (falls, _), (end, _)] = LOADS;
        let heads = ["limit: 200 units in a second", "offered 0.5 x: admitted", "3 x: admitted per second"];
        let more = ["3 x: rate in steps of 100 ms", "again 0.5 x: admitted", "most in any second"];
        let mut table = Table::new(heads.into_iter().chain(more));
        for (name, admitted) in [("absolute", &self.absolute), ("suppressed, factor 1.5", &self.suppressed)] {
            let part = |from, to| {
                let [part, all] = [admitted, &self.offered].map(|requests| requests.within(from, to) as f64);
                format!("{:.0} %", 100.0 * part / all)
            };
            table.row([
                name.to_owned(),
                part(0.0, rises),
                format!("{:.0}", admitted.within(rises + LEARNED, falls) as f64 / (falls - rises - LEARNED)),
                rates(admitted, rises + LEARNED, falls),
                part(falls + LEARNED / 2.0, end),
                admitted.most(1.0, 0.0, end).to_string(),
            ]);
        }
        table
    }

    pub fn plot(&self) -> String {
        Lines {
            title: "An overload of one key: 0.5, 3 and again 0.5 times its limit",
            description: "During the overload, the absolute strategy admits bursts, and never more than the limit of \
                          200 units in any second. The suppressed strategy admits a third of the requests all the \
                          time, and never more than the hard cap of 300 units in any second.",
            axis: ("time in seconds", END),
            panels: vec![
                self.panel(
                    "Absolute: never more than the limit in any second, in bursts",
                    ORANGE,
                    &self.absolute,
                    false,
                ),
                self.panel(
                    "Suppressed: a steady share, and never more than the hard cap",
                    BLUE,
                    &self.suppressed,
                    true,
                ),
            ],
        }
        .draw(620.0, 560.0)
    }

    fn panel<'a>(&self, heading: &'a str, color: &'static str, admitted: &Admissions, has_cap: bool) -> Panel<'a> {
        let line = |name: &str, color, points, shape| Line { name: name.into(), color, points, width: 2.0, shape };
        let across = |name, color, height| Guide {
            name,
            color,
            ends: [(0.0, height), (END, height)],
            label: Some((10.2, height + 12.0)),
        };
        let mut guides = vec![across("limit", RED, LIMIT)];
        if has_cap {
            guides.push(across("hard cap", PURPLE, HARD * LIMIT));
        }
        Panel {
            heading,
            axis: ("units per second", 3.2 * LIMIT),
            guides,
            lines: vec![
                line("units in the last second", INK, admitted.windows(1.0, STEP, END), Shape::Straight),
                line("admitted", color, admitted.rates(STEP, 0.0, END), Shape::Filled),
                line("offered", LIGHT, self.offered.rates(STEP, 0.0, END), Shape::Filled),
            ],
            ..Panel::default()
        }
    }
}

/// The least and the most of the rates per second.
fn rates(admitted: &Admissions, from: f64, to: f64) -> String {
    let rates = admitted.rates(STEP, from, to).into_iter().map(|(_, rate)| rate);
    Figures::of(rates).map_or("-".into(), |rates| format!("{:.0} to {:.0}", rates.min, rates.max))
}

/// When requests arrive: evenly spaced within each load.
fn arrivals() -> impl Iterator<Item = f64> {
    let begins = std::iter::once(BEGIN).chain(LOADS.map(|(end, _)| end));
    begins.zip(LOADS).flat_map(|(begin, (end, load))| {
        let per_second = load * LIMIT;
        (0..((end - begin) * per_second) as u32).map(move |at| begin + f64::from(at) / per_second)
    })
}

//! The plots, as SVG that a page contains.

use std::fmt::Write as _;

use super::Replay;
use super::html::escaped;
use super::numbers::{count, percent, short};
use super::scale::{Axis, round_up};
use crate::format::date_and_time;
use crate::search::Curve;
use crate::tally::Buckets;

/// The size of a plot in pixels. A page has one for wide and one for narrow screens, so that texts keep their size.
#[derive(Clone, Copy)]
pub(super) struct Size {
    class: &'static str,
    width: f64,
    height: f64,
}

pub(super) const SIZES: [Size; 2] =
    [Size { class: "wide", width: 840.0, height: 270.0 }, Size { class: "narrow", width: 344.0, height: 230.0 }];

const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 42.0;

/// A plot in progress.
struct Plot {
    svg: String,
    size: Size,
}

impl Plot {
    fn new(size: Size, title: &str, y_label: &str, x_label: &str) -> Self {
        let Size { class, width, height } = size;
        let title = escaped(title);
        let mut svg =
            format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n");
        let (middle, bottom) = ((LEFT + width - RIGHT) / 2.0, height - 6.0);
        let _ = writeln!(svg, "<text class=\"label\" x=\"2\" y=\"12\">{}</text>", escaped(y_label));
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\">{}</text>",
            escaped(x_label)
        );
        Self { svg, size }
    }

    /// The places of the x axis.
    fn across(&self) -> (f64, f64) {
        (LEFT, self.size.width - RIGHT)
    }

    /// The places of the y axis.
    fn up(&self) -> (f64, f64) {
        (self.size.height - BOTTOM, TOP)
    }

    /// The most ticks on the x axis, for labels of this width.
    fn room_for(&self, label: f64) -> usize {
        ((self.size.width - LEFT - RIGHT) / label).floor() as usize
    }

    fn y_ticks(&mut self, axis: &Axis, ticks: &[f64], label: impl Fn(f64) -> String) {
        let (from, to) = self.across();
        for tick in ticks {
            let (y, label) = (axis.at(*tick), label(*tick));
            let (x, below) = (from - 6.0, y + 4.0);
            let _ = writeln!(
                self.svg,
                "<line class=\"grid\" x1=\"{from}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>",
                escaped(&label)
            );
        }
    }

    fn x_ticks(&mut self, ticks: &[(f64, String)]) {
        let bottom = self.up().0;
        let (from, to) = self.across();
        let _ = writeln!(self.svg, "<line class=\"axis\" x1=\"{from}\" x2=\"{to}\" y1=\"{bottom}\" y2=\"{bottom}\"/>");
        for (x, label) in ticks {
            let (end, below) = (bottom + 4.0, bottom + 16.0);
            let _ = writeln!(
                self.svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>\
                 <text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
                escaped(label)
            );
        }
    }

    fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.svg, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
    }

    fn dot(&mut self, (x, y): (f64, f64), title: &str) {
        let title = escaped(title);
        let _ = writeln!(
            self.svg,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{title}</title></circle>"
        );
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

/// Offered, admitted and refused requests over time.
pub(super) fn over_time(replay: &Replay, size: Size) -> String {
    let (tally, buckets) = (&replay.tally, replay.tally.buckets);
    let width = buckets.width();
    let mut plot = Plot::new(size, "Requests over time", &format!("requests per {width}"), "time (UTC)");
    let most = tally.offered_in.iter().copied().max().unwrap_or(0) as f64;
    let y = Axis { values: (0.0, round_up(most, 4)), places: plot.up(), is_log: false };
    plot.y_ticks(&y, &y.ticks(4), short);

    let (from, to) = plot.across();
    let step = (to - from) / buckets.count as f64;
    let bottom = plot.up().0;
    let ends = (0..).zip(&tally.offered_in).flat_map(|(bucket, all)| {
        let (x, top) = (from + step * f64::from(bucket), y.at(*all as f64));
        [(x, top), (x + step, top)]
    });
    // Below the bars, so that it does not hide narrow ones.
    plot.line("offered", &ends.collect::<Vec<_>>());
    // Bars overlap a little, so that rounding leaves no gaps.
    let wide = step + 0.4;
    for (bucket, (all, refused)) in tally.offered_in.iter().zip(&tally.refused_in).enumerate() {
        if *all == 0 {
            continue;
        }
        let x = from + step * bucket as f64;
        let (top, middle) = (y.at(*all as f64), y.at((all - refused) as f64));
        let title = format!(
            "{}: {} offered, {} admitted, {} refused",
            date_and_time(buckets.start_of(bucket)),
            count(*all),
            count(all - refused),
            count(*refused)
        );
        let _ = writeln!(plot.svg, "<g><title>{title}</title>");
        for (class, y, height) in [("admitted", middle, bottom - middle), ("refused", top, middle - top)] {
            let _ = writeln!(
                plot.svg,
                "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{wide:.2}\" height=\"{height:.1}\"/>"
            );
        }
        plot.svg.push_str("</g>\n");
    }
    let ticks = time_ticks(buckets, plot.room_for(92.0));
    let places: Vec<(f64, String)> = ticks.into_iter().map(|(bucket, label)| (from + step * bucket, label)).collect();
    plot.x_ticks(&places);
    plot.end()
}

/// The distances between ticks of time, in seconds. They are at multiples of these.
const STEPS: [u64; 21] = [
    1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800,
    604_800, 2_592_000,
];

/// Round times along an axis, with their labels: the time of day, and also the date if the log is longer than a day.
fn time_ticks(buckets: Buckets, most: usize) -> Vec<(f64, String)> {
    let length_ms = buckets.width_ms * buckets.count as u64;
    let fits = |step: &u64| length_ms / step < most.max(1) as u64;
    let steps = STEPS.iter().map(|seconds| seconds * 1_000);
    let step = steps.clone().find(fits).unwrap_or_else(|| length_ms.div_ceil(most.max(1) as u64)).max(1);
    let label = |ms: u64| {
        let text = date_and_time(ms);
        match (step, length_ms > 86_400_000) {
            (86_400_000.., _) => text[..10].to_owned(),
            (_, true) => text[5..16].to_owned(),
            (60_000.., false) => text[11..16].to_owned(),
            (_, false) => text[11..].to_owned(),
        }
    };
    let first = buckets.start_ms.div_ceil(step) * step;
    let times = (0..).map(|at| first + at * step).take_while(|time| *time < buckets.start_ms + length_ms);
    times.map(|time| ((time - buckets.start_ms) as f64 / buckets.width_ms as f64, label(time))).collect()
}

/// The most points of a line.
const POINTS: usize = 160;

/// The refusals of each key, the most first.
pub(super) fn by_key(replay: &Replay, size: Size) -> String {
    let keys = replay.tally.refused_keys();
    let x_label = "keys with a refusal, ordered by their refusals (rank)";
    let mut plot = Plot::new(size, "Refusals of each key", "refused requests of the key", x_label);
    let most = keys.first().map_or(1, |(_, refused)| *refused).max(10);
    let x = Axis { values: (1.0, keys.len().max(10) as f64), places: plot.across(), is_log: true };
    let y = Axis { values: (1.0, f64::from(most)), places: plot.up(), is_log: true };
    plot.y_ticks(&y, &y.ticks(6), short);
    let places: Vec<(f64, String)> =
        x.ticks(plot.room_for(48.0)).into_iter().map(|rank| (x.at(rank), short(rank))).collect();
    plot.x_ticks(&places);
    // Ranks at equal distances on the axis.
    let ratio = (keys.len().max(2) as f64).powf(1.0 / POINTS as f64);
    let mut ranks: Vec<usize> = (0..=POINTS).map(|at| ratio.powi(at as i32).round() as usize).collect();
    ranks.push(keys.len());
    ranks.dedup();
    let point = |rank: &usize| {
        let (_, refused) = keys.get(rank.checked_sub(1)?)?;
        Some((x.at(*rank as f64), y.at(f64::from(*refused))))
    };
    let points: Vec<(f64, f64)> = ranks.iter().filter_map(point).collect();
    plot.line("curve", &points);
    for (rank, (_, refused)) in (1..).zip(keys.iter().take(10)) {
        let place = (x.at(f64::from(rank)), y.at(f64::from(*refused)));
        plot.dot(place, &format!("rank {rank}: {} refused", count((*refused).into())));
    }
    plot.end()
}

/// The refused share as a function of the limit.
pub(super) fn by_size(replay: &Replay, curve: &Curve, size: Size) -> String {
    let policy = &replay.policy;
    let mut plot = Plot::new(size, "Refused share by limit", "refused share of all requests", &policy.unit());
    let largest = curve.shares.values().copied().fold(0.0, f64::max).max(curve.target.unwrap_or(0.0)) * 100.0;
    let y = Axis { values: (0.0, round_up(largest, 4).min(100.0)), places: plot.up(), is_log: false };
    plot.y_ticks(&y, &y.ticks(4), |percent| format!("{percent} %"));
    let least = curve.shares.keys().next().copied().unwrap_or(1).max(1) as f64;
    let most = curve.shares.keys().next_back().copied().unwrap_or(1) as f64;
    let x = Axis { values: (least, most.max(least * 2.0)), places: plot.across(), is_log: true };
    let places: Vec<(f64, String)> =
        x.ticks(plot.room_for(52.0)).into_iter().map(|size| (x.at(size), short(size))).collect();
    plot.x_ticks(&places);

    let (bottom, top) = plot.up();
    let own = x.at(policy.size() as f64);
    plot.line("own", &[(own, bottom), (own, top)]);
    if let Some(target) = curve.target {
        let (from, to) = plot.across();
        let at = y.at(target * 100.0);
        plot.line("target", &[(from, at), (to, at)]);
    }
    let place = |(size, share): (&u64, &f64)| (x.at(*size as f64), y.at(share * 100.0));
    let points: Vec<(f64, f64)> = curve.shares.iter().map(place).collect();
    plot.line("curve", &points);
    for ((size, share), point) in curve.shares.iter().zip(points) {
        plot.dot(point, &format!("{}: {} refused", policy.at(*size), percent(*share)));
    }
    plot.end()
}

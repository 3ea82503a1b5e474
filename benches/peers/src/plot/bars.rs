//! Bars in groups, with their values written above them.

use super::GREY;
use super::svg::{Anchor, Frame, INK, Sample, Svg, TEXT, escaped};

/// A value, and the least and the most of the rounds.
#[derive(Clone, Copy)]
pub struct Bar {
    pub value: f64,
    pub spread: Option<(f64, f64)>,
}

/// A plot of bars.
pub struct Bars<'a> {
    pub title: &'a str,
    /// A text for readers who do not see the plot.
    pub description: &'a str,
    /// The title of the vertical axis.
    pub axis: &'a str,
    /// Names and colors, in the order of the bars in a group.
    pub series: Vec<(&'a str, &'static str)>,
    /// The lines of a group's label, and a bar for each series, or `None` where a contestant has none.
    pub groups: Vec<(Vec<String>, Vec<Option<Bar>>)>,
}

impl Bars<'_> {
    pub fn draw(&self, width: f64, height: f64) -> String {
        let mut svg = Svg::new(width, height, self.title, self.description);
        let tops = self.groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let most = tops.map(|bar| bar.spread.map_or(bar.value, |(_, most)| most.max(bar.value))).fold(0.0, f64::max);
        let labels = self.groups.iter().map(|(label, _)| label.len()).max().unwrap_or(1);
        let frame = Frame {
            left: 72.0,
            right: width - 24.0,
            top: 72.0,
            bottom: height - 14.0 - 17.0 * labels as f64,
            most: (self.groups.len() as f64, most * 1.1),
        };
        frame.draw_y(&mut svg, self.axis);
        let bar_width = (frame.x(1.0) - frame.x(0.0)) * 0.8 / self.series.len() as f64;
        for (at, (label, bars)) in self.groups.iter().enumerate() {
            let begin = frame.x(at as f64 + 0.1);
            for (place, (bar, (_, color))) in bars.iter().zip(&self.series).enumerate() {
                let (x, middle) = (begin + bar_width * place as f64, begin + bar_width * (place as f64 + 0.5));
                let Some(bar) = bar else {
                    svg.text(middle, frame.bottom - 5.0, TEXT, Anchor::Middle, "-");
                    continue;
                };
                let y = frame.y(bar.value);
                svg.rect([x + 1.0, y, bar_width - 2.0, frame.bottom - y], color);
                let mut top = y;
                if let Some((least, most)) = bar.spread {
                    top = frame.y(most).min(y);
                    svg.line([middle, frame.y(least), middle, top], INK, 1.5, "");
                }
                svg.text(middle, top - 5.0, 12.0, Anchor::Middle, &format!("{:.0}", bar.value));
            }
            for (row, line) in label.iter().enumerate() {
                let y = frame.bottom + 19.0 + 17.0 * row as f64;
                svg.text(frame.x(at as f64 + 0.5), y, TEXT, Anchor::Middle, &escaped(line));
            }
        }
        svg.line([frame.left, frame.bottom, frame.right, frame.bottom], GREY, 1.0, "");
        if self.series.len() > 1 {
            let series = self.series.iter().map(|&(name, color)| (name, Sample::Color(color)));
            svg.legend((frame.left, frame.right), 54.0, series);
        }
        svg.finish()
    }
}

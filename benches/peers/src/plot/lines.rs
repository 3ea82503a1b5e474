//! Lines over a horizontal axis of numbers, in one panel or in several below each other.

use super::svg::{Anchor, FAINT, Frame, Sample, Svg, TEXT, escaped};

/// How the points of a line are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Straight, with a mark at each point.
    Marked,
    /// Straight, for points that lie close together.
    Straight,
    /// Each value is kept until the next point.
    Steps,
    /// As `Steps`, with the color below the line.
    Filled,
}

/// One line of a panel.
pub struct Line {
    pub name: String,
    pub color: &'static str,
    pub points: Vec<(f64, f64)>,
    pub width: f64,
    pub shape: Shape,
}

/// A dashed line between two points.
pub struct Guide<'a> {
    pub name: &'a str,
    pub color: &'static str,
    pub ends: [(f64, f64); 2],
    /// The position of the name in the panel. Without one, the name is in the legend.
    pub label: Option<(f64, f64)>,
}

/// A part of the horizontal axis that is shaded, with its name above it.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    pub name: &'a str,
    pub ends: (f64, f64),
}

/// Lines in one frame.
#[derive(Default)]
pub struct Panel<'a> {
    /// Above the legend; empty if the plot has one panel.
    pub heading: &'a str,
    /// The title of the vertical axis, and the value at its end.
    pub axis: (&'a str, f64),
    pub spans: Vec<Span<'a>>,
    pub guides: Vec<Guide<'a>>,
    /// In the order of the legend; the first is drawn last, above the others.
    pub lines: Vec<Line>,
}

/// A plot of lines.
pub struct Lines<'a> {
    pub title: &'a str,
    /// A text for readers who do not see the plot.
    pub description: &'a str,
    /// The title of the horizontal axis, and the value at its end.
    pub axis: (&'a str, f64),
    pub panels: Vec<Panel<'a>>,
}

impl Lines<'_> {
    pub fn draw(&self, width: f64, height: f64) -> String {
        let mut svg = Svg::new(width, height, self.title, self.description);
        let (begin, end) = (36.0, height - 24.0);
        let share = (end - begin) / self.panels.len() as f64;
        for (at, panel) in self.panels.iter().enumerate() {
            let top = begin + share * at as f64;
            panel.draw(&mut svg, self.axis.1, top, top + share);
        }
        svg.text((72.0 + width - 24.0) / 2.0, height - 16.0, TEXT, Anchor::Middle, &escaped(self.axis.0));
        svg.finish()
    }
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, most: f64, top: f64, bottom: f64) {
        let (left, right) = (72.0, svg.width() - 24.0);
        let mut top = top + 18.0;
        if !self.heading.is_empty() {
            svg.text(
                left,
                top,
                TEXT,
                Anchor::Start,
                &format!("<tspan font-weight=\"bold\">{}</tspan>", escaped(self.heading)),
            );
            top += 20.0;
        }
        let lines = self.lines.iter().map(|line| (&*line.name, Sample::Color(line.color)));
        let guides = self.guides.iter().filter(|guide| guide.label.is_none());
        let guides = guides.map(|guide| (guide.name, Sample::Dashes(guide.color)));
        top = svg.legend((left, right), top, lines.chain(guides)) + 6.0;
        if !self.spans.is_empty() {
            top += 16.0;
        }
        let frame = Frame { left, right, top, bottom: bottom - 32.0, most: (most, self.axis.1) };
        for Span { name, ends: (from, to) } in &self.spans {
            svg.rect([frame.x(*from), top, frame.x(*to) - frame.x(*from), frame.bottom - top], FAINT);
            svg.text(frame.x((from + to) / 2.0), top - 5.0, TEXT, Anchor::Middle, &escaped(name));
        }
        frame.draw_y(svg, self.axis.0);
        frame.draw_x(svg);
        self.lines.iter().rev().for_each(|line| line.draw(svg, &frame));
        for Guide { name, color, ends: [from, to], label } in &self.guides {
            svg.line([frame.x(from.0), frame.y(from.1), frame.x(to.0), frame.y(to.1)], color, 2.0, "6 4");
            if let Some((x, y)) = label {
                svg.text(frame.x(*x), frame.y(*y), TEXT, Anchor::Start, &escaped(name));
            }
        }
    }
}

impl Line {
    fn draw(&self, svg: &mut Svg, frame: &Frame) {
        // A value above the end of the axis, as from a stall of the machine, must not cover the legend.
        let points: Vec<_> = self.points.iter().map(|&(x, y)| (frame.x(x), frame.y(y.min(frame.most.1)))).collect();
        match self.shape {
            Shape::Filled => svg.area(&points, frame.bottom, self.color),
            shape => svg.path(&points, shape == Shape::Steps, self.color, self.width),
        }
        if self.shape == Shape::Marked {
            points.iter().for_each(|&(x, y)| svg.dot(x, y, self.color));
        }
    }
}

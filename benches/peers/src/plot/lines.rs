//! Lines over a horizontal axis of numbers.

use super::svg::{Anchor, Frame, Svg, TEXT, escaped};

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub color: &'static str,
    pub points: Vec<(f64, f64)>,
    pub width: f64,
}

/// A dashed line between two points.
pub struct Guide<'a> {
    pub name: &'a str,
    pub color: &'static str,
    pub ends: [(f64, f64); 2],
    /// The position of the name in the plot. Without one, the name is in the legend.
    pub label: Option<(f64, f64)>,
}

/// A plot of lines.
pub struct Lines<'a> {
    pub title: &'a str,
    pub axes: (&'a str, &'a str),
    pub most: (f64, f64),
    /// Whether a line keeps each value until the next point; otherwise the points are marked and joined.
    pub steps: bool,
    pub guides: Vec<Guide<'a>>,
    /// In the order of the legend; the first is drawn last, above the others.
    pub lines: Vec<Line>,
}

impl Lines<'_> {
    pub fn draw(&self, width: f64, height: f64) -> String {
        let mut svg = Svg::new(width, height, self.title);
        let frame = Frame { left: 72.0, right: width - 24.0, top: 72.0, bottom: height - 58.0, most: self.most };
        frame.draw_y(&mut svg, self.axes.1);
        frame.draw_x(&mut svg, self.axes.0);
        for line in self.lines.iter().rev() {
            let at = |&(x, y): &(f64, f64)| (frame.x(x), frame.y(y));
            let points: Vec<_> = line.points.iter().map(at).collect();
            svg.path(&points, self.steps, line.color, line.width);
            if !self.steps {
                points.iter().for_each(|&(x, y)| svg.dot(x, y, line.color));
            }
        }
        for Guide { name, color, ends: [from, to], label } in &self.guides {
            svg.line([frame.x(from.0), frame.y(from.1), frame.x(to.0), frame.y(to.1)], color, 2.0, "6 4");
            if let Some((x, y)) = label {
                svg.text(frame.x(*x), frame.y(*y), TEXT, Anchor::Start, &escaped(name));
            }
        }
        let guides = self.guides.iter().filter(|guide| guide.label.is_none());
        let guides = guides.map(|guide| (guide.name, guide.color, true));
        svg.legend(frame.left, 54.0, self.lines.iter().map(|line| (&*line.name, line.color, false)).chain(guides));
        svg.finish()
    }
}

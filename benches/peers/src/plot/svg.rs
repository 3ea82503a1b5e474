//! Shapes and text, and the frame that all plots share.

use std::fmt::Write as _;

use super::GREY;

pub const INK: &str = "#222222";
pub const FAINT: &str = "#e4e4e4";
pub const TEXT: f64 = 13.0;

/// The point of a text that lies at its position.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The sample of a color in a legend.
#[derive(Clone, Copy)]
pub enum Sample<'a> {
    Color(&'a str),
    Dashes(&'a str),
}

/// An image under construction.
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self { body: String::new(), width, height };
        svg.push(&format!("<title>{}</title>", escaped(title)));
        svg.push(&format!("<desc>{}</desc>", escaped(description)));
        svg.push(&format!(
            "<rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#ffffff\" stroke=\"#d0d0d0\"/>",
            width - 1.0,
            height - 1.0
        ));
        svg.text(
            width / 2.0,
            26.0,
            15.0,
            Anchor::Middle,
            &format!("<tspan font-weight=\"bold\">{}</tspan>", escaped(title)),
        );
        svg
    }

    pub fn width(&self) -> f64 {
        self.width
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: &str) {
        self.push(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
        ));
    }

    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], color: &str, width: f64, dashes: &str) {
        let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
        self.push(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" \
             stroke-width=\"{width}\"{dashes}/>"
        ));
    }

    /// A line through points. With `steps`, it keeps each value until the next point.
    pub fn path(&mut self, points: &[(f64, f64)], steps: bool, color: &str, width: f64) {
        self.push(&format!(
            "<path d=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>",
            course(points, steps)
        ));
    }

    /// The area between the steps through points and a horizontal line.
    pub fn area(&mut self, points: &[(f64, f64)], bottom: f64, fill: &str) {
        if let [(first, _), ..] = points {
            let course = course(points, true);
            self.push(&format!("<path d=\"{course}V{bottom:.1}H{first:.1}Z\" fill=\"{fill}\"/>"));
        }
    }

    pub fn dot(&mut self, x: f64, y: f64, color: &str) {
        self.push(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"));
    }

    /// A text in markup: the caller escapes what needs it.
    pub fn text(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, markup: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{INK}\">{markup}</text>"
        ));
    }

    /// The title of the vertical axis, which reads upwards.
    pub fn upright(&mut self, x: f64, y: f64, text: &str) {
        self.push(&format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" font-size=\"{TEXT}\" text-anchor=\"middle\" \
             fill=\"{INK}\">{}</text>",
            escaped(text)
        ));
    }

    /// Names beside samples of their colors, in as many lines as they need. Returns the position below them.
    pub fn legend<'a>(
        &mut self,
        (left, right): (f64, f64),
        mut y: f64,
        entries: impl IntoIterator<Item = (&'a str, Sample<'a>)>,
    ) -> f64 {
        let mut x = left;
        for (name, sample) in entries {
            // The mean width of a character in the usual fonts, and a little more.
            let width = 28.0 + 0.55 * TEXT * name.chars().count() as f64;
            if x > left && x + width > right {
                (x, y) = (left, y + 18.0);
            }
            match sample {
                Sample::Dashes(color) => self.line([x, y - 4.0, x + 22.0, y - 4.0], color, 2.0, "6 4"),
                Sample::Color(color) => self.rect([x, y - 10.0, 22.0, 11.0], color),
            }
            self.text(x + 28.0, y, TEXT, Anchor::Start, &escaped(name));
            x += width + 18.0;
        }
        y + 8.0
    }

    pub fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" role=\"img\">\n\
             {body}</svg>\n"
        )
    }
}

/// The data of a path through points.
fn course(points: &[(f64, f64)], steps: bool) -> String {
    let mut path = String::new();
    let mut last = None;
    for &(x, y) in points {
        let _ = match last {
            None => write!(path, "M{x:.1} {y:.1}"),
            Some(before) if steps && before == y => Ok(()),
            Some(_) if steps => write!(path, "H{x:.1}V{y:.1}"),
            Some(_) => write!(path, "L{x:.1} {y:.1}"),
        };
        last = Some(y);
    }
    if let (true, Some((x, _))) = (steps, points.last()) {
        let _ = write!(path, "H{x:.1}");
    }
    path
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The rectangle in which values are drawn, and their scales.
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// The values at the ends of the axes; both begin at 0.
    pub most: (f64, f64),
}

impl Frame {
    pub fn x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * value / self.most.0
    }

    pub fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * value / self.most.1
    }

    /// The vertical axis with its marks and its title.
    pub fn draw_y(&self, svg: &mut Svg, title: &str) {
        let step = step(self.most.1);
        for mark in marks(self.most.1, step) {
            let y = self.y(mark);
            svg.line([self.left, y, self.right, y], FAINT, 1.0, "");
            svg.text(self.left - 8.0, y + 4.5, TEXT, Anchor::End, &label(mark, step));
        }
        svg.line([self.left, self.top, self.left, self.bottom], GREY, 1.0, "");
        svg.upright(22.0, (self.top + self.bottom) / 2.0, title);
    }

    /// The horizontal axis with its marks.
    pub fn draw_x(&self, svg: &mut Svg) {
        let step = step(self.most.0);
        for mark in marks(self.most.0, step) {
            let x = self.x(mark);
            svg.line([x, self.bottom, x, self.bottom + 5.0], GREY, 1.0, "");
            svg.text(x, self.bottom + 20.0, TEXT, Anchor::Middle, &label(mark, step));
        }
        svg.line([self.left, self.bottom, self.right, self.bottom], GREY, 1.0, "");
    }
}

/// The distance of about six marks up to `most`: one, two or five times a power of ten.
fn step(most: f64) -> f64 {
    let rough = most / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn marks(most: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=(most / step + 1e-9) as u32).map(move |at| f64::from(at) * step)
}

fn label(mark: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{mark:.decimals$}")
}

//! Plots in SVG, on a white ground of their own, so that they are legible on light and dark pages.

mod bars;
mod lines;
mod svg;

pub use self::bars::{Bar, Bars};
pub use self::lines::{Guide, Line, Lines, Panel, Shape, Span};
pub use self::svg::INK;

/// Colors that readers with any kind of color vision can distinguish (Okabe and Ito).
pub const BLUE: &str = "#0072b2";
pub const ORANGE: &str = "#e69f00";
pub const GREEN: &str = "#009e73";
pub const PURPLE: &str = "#cc79a7";
pub const SKY: &str = "#56b4e9";
pub const GREY: &str = "#8a8a8a";
pub const LIGHT: &str = "#d5d5d5";
pub const RED: &str = "#c1272d";

/// The color of a contestant, the same in all plots.
pub fn color(library: &str) -> &'static str {
    match library {
        "tower-weir" => BLUE,
        "governor" => ORANGE,
        "trypema" => GREEN,
        _ => GREY,
    }
}

//! The figures that the README shows, and the plot of the same.

use crate::engines::{HOT_ADMIT, HOT_ADMIT_TWO, HOT_REJECT, MANY_ADMIT, MANY_REJECT};
use crate::memory::Weights;
use crate::plot::{Bar, Bars, color};
use crate::race::Standing;
use crate::report::{Table, version};

const LIBRARIES: [&str; 3] = ["tower-weir", "governor", "trypema"];
/// The kind of key that all of them take.
const KEY: &str = "text";

pub fn table(local: &[Standing], weights: &Weights) -> Table {
    let [weir, governor, trypema] = LIBRARIES;
    let mut table = Table::new(["medians, by keys of text", weir, &version(governor), &version(trypema)]);
    for title in [HOT_ADMIT, HOT_REJECT, HOT_ADMIT_TWO, MANY_ADMIT, MANY_REJECT] {
        let cells = LIBRARIES.map(|library| bar(local, title, library).map(|bar| format!("{:.0} ns", bar.value)));
        table.row(std::iter::once(title.to_owned()).chain(cells.map(|cell| cell.unwrap_or("-".into()))));
    }
    let weight = |library| {
        let found = weights.keyed.iter().find(|weight| (weight.library, weight.variant) == (library, KEY));
        found.map_or("-".into(), |weight| format!("{:.0} B", weight.live))
    };
    let title = "memory per key, one million keys with one request each".to_owned();
    table.row(std::iter::once(title).chain(LIBRARIES.map(weight)));
    table
}

/// The nanoseconds of a call, for each scenario and library.
pub fn plot(local: &[Standing]) -> String {
    let titles = [HOT_ADMIT, HOT_REJECT, HOT_ADMIT_TWO, MANY_ADMIT, MANY_REJECT];
    let groups = titles.map(|title| {
        let lines = title.splitn(3, ", ").map(str::to_owned).collect();
        (lines, LIBRARIES.map(|library| bar(local, title, library)).into())
    });
    Bars {
        title: "Time of one decision, by a key of text",
        description: "Bars of the nanoseconds of a call, by the scenario, for each limiter.",
        axis: "nanoseconds per call",
        series: LIBRARIES.map(|library| (library, color(library))).into(),
        groups: groups.into(),
    }
    .draw(760.0, 380.0)
}

fn bar(local: &[Standing], title: &str, library: &str) -> Option<Bar> {
    let standing = local.iter().find(|standing| standing.title == title)?;
    let figures = standing.get(library, KEY)?.figures()?;
    Some(Bar { value: figures.median, spread: Some((figures.min, figures.max)) })
}

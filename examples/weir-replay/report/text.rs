//! The report for a terminal.

use std::fmt::Write as _;

use super::numbers::{count, percent};
use super::{Report, Row};
use crate::tally::share;

/// Lines in columns. The first column is aligned to the left, the others to the right.
struct Table {
    rows: Vec<Vec<String>>,
    /// How many columns are aligned to the left.
    left: usize,
}

impl Table {
    fn new(left: usize, head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()], left }
    }

    fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    fn write(&self, out: &mut String) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match column < self.left {
                    true => write!(line, "{cell:<width$}  "),
                    false => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

/// Writes the report.
pub(crate) fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "Replay of {}", report.files.join(", "));
    for note in report.notes() {
        let _ = writeln!(out, "  {note}");
    }
    for bad in &report.trace.notes.bad {
        let _ = writeln!(out, "  {}:{}: {}: {}", bad.file, bad.line, bad.reason, bad.text);
    }
    let _ = writeln!(out);

    let head = ["policy", "per", "strategy", "requests", "refused", "share", "keys", "keys refused"];
    let mut table = Table::new(3, &head);
    for replay in report.replays {
        let (policy, tally) = (&replay.policy, &replay.tally);
        table.add([
            policy.name(),
            policy.per().to_owned(),
            policy.strategy(),
            count(tally.requests),
            count(tally.refused),
            percent(tally.share()),
            count(tally.keys() as u64),
            count(tally.keys_refused() as u64),
        ]);
    }
    table.write(&mut out);
    for replay in report.replays {
        let _ = writeln!(out, "\n{} per {}, {}", replay.policy.name(), replay.policy.per(), replay.policy.strategy());
        for note in replay.notes(report.trace) {
            let _ = writeln!(out, "  {note}");
        }
        let times = replay.worst_times(report.rows);
        if times.is_empty() {
            let _ = writeln!(out, "  No request is refused");
            continue;
        }
        let width = replay.tally.buckets.width();
        rows(&mut out, &format!("{width} from (UTC)"), &times);
        let (keys, others) = replay.worst_keys(report.trace, report.rows);
        rows(&mut out, "key", &keys);
        if others > 0 {
            let _ = writeln!(out, "  other keys with refusals: {}", count(others as u64));
        }
    }
    out
}

fn rows(out: &mut String, name: &str, rows: &[Row]) {
    let _ = writeln!(out);
    let mut table = Table::new(1, &[name, "requests", "refused", "share"]);
    for row in rows {
        let shown = percent(share(row.refused, row.requests));
        table.add([row.name.clone(), count(row.requests), count(row.refused), shown]);
    }
    table.write(out);
}

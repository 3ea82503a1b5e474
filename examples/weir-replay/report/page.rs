//! The report as one HTML page without scripts, and without anything from a network.

use std::fmt::Write as _;

use super::html::escaped;
use super::numbers::{self, count, percent};
use super::plot::{self, SIZES, Size};
use super::{Replay, Report, Row};
use crate::tally::share;

/// The policy forbids scripts and requests, even if a text from the log were not escaped.
const START: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<link rel=\"icon\" href=\"data:,\">
<title>What a rate limit would have done</title>
<style>
";

/// Writes the page.
pub(crate) fn page(report: &Report<'_>) -> String {
    let mut out = format!("{START}{}</style>\n</head>\n<body>\n<main>\n", include_str!("style.css"));
    let _ = writeln!(out, "<h1>What a rate limit would have done to {}</h1>", escaped(&report.files.join(", ")));
    list(&mut out, &report.notes());
    let bad = &report.trace.notes.bad;
    if !bad.is_empty() {
        let _ = writeln!(out, "<h3>The first lines that are not readable</h3>");
        let line = |bad: &crate::batch::Shown| format!("{}:{}: {}: {}", bad.file, bad.line, bad.reason, bad.text);
        list(&mut out, &bad.iter().map(line).collect::<Vec<_>>());
    }
    let head = ["policy", "per", "strategy", "requests", "refused", "share", "keys", "keys refused"];
    let rows = report.replays.iter().map(|replay| {
        let (policy, tally) = (&replay.policy, &replay.tally);
        vec![
            policy.name(),
            policy.per().to_owned(),
            policy.strategy(),
            count(tally.requests),
            count(tally.refused),
            percent(tally.share()),
            count(tally.keys() as u64),
            count(tally.keys_refused() as u64),
        ]
    });
    table(&mut out, &head, 3, rows);
    for replay in report.replays {
        section(&mut out, report, replay);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, report: &Report<'_>, replay: &Replay) {
    let (policy, tally) = (&replay.policy, &replay.tally);
    let title = format!("{} per {}, {}", policy.name(), policy.per(), policy.strategy());
    let _ = writeln!(out, "<h2>{}</h2>", escaped(&title));
    let _ = writeln!(
        out,
        "<p>{} of {} requests are refused ({}), of {} of {} keys.</p>",
        count(tally.refused),
        count(tally.requests),
        percent(tally.share()),
        count(tally.keys_refused() as u64),
        count(tally.keys() as u64)
    );
    list(out, &replay.notes(report.trace));

    let legend = [("offered", "offered".into()), ("admitted", "admitted".into()), ("refused", "refused".into())];
    figure(out, "Requests over time", &legend, |size| plot::over_time(replay, size));
    let times = replay.worst_times(report.rows);
    if !times.is_empty() {
        let _ = writeln!(out, "<h3>When most requests are refused</h3>");
        rows(out, &format!("{} from (UTC)", tally.buckets.width()), &times);
        // The table below shows as much of a few keys.
        if tally.keys_refused() > 2 {
            let legend = [("curve", "refused requests of the key with this rank".into())];
            figure(out, "Refusals of each key", &legend, |size| plot::by_key(replay, size));
        }
        let (keys, others) = replay.worst_keys(report.trace, report.rows);
        let _ = writeln!(out, "<h3>Whose requests are refused</h3>");
        rows(out, "key", &keys);
        if others > 0 {
            let _ = writeln!(out, "<p>Other keys with refusals: {}</p>", count(others as u64));
        }
    }
    if let Some(curve) = &replay.curve {
        let mut legend =
            vec![("curve", "refused share".to_owned()), ("own", format!("this policy: {}", percent(tally.share())))];
        if let Some(target) = curve.target {
            let found = curve.smallest.map_or("no limit".into(), |size| policy.at(size));
            legend.push(("target", format!("target {}: {found}", numbers::target(target))));
        }
        figure(out, "Refused share by limit", &legend, |size| plot::by_size(replay, curve, size));
    }
}

/// A plot in both sizes, with its legend above it, where it covers nothing.
fn figure(out: &mut String, title: &str, legend: &[(&str, String)], plot: impl Fn(Size) -> String) {
    let _ = writeln!(out, "<h3>{}</h3>\n<figure>\n<figcaption>", escaped(title));
    for (class, text) in legend {
        let _ = writeln!(out, "<span><i class=\"{class}\"></i>{}</span>", escaped(text));
    }
    out.push_str("</figcaption>\n");
    SIZES.iter().for_each(|size| out.push_str(&plot(*size)));
    out.push_str("</figure>\n");
}

fn rows(out: &mut String, name: &str, rows: &[Row]) {
    let cells = |row: &Row| {
        vec![row.name.clone(), count(row.requests), count(row.refused), percent(share(row.refused, row.requests))]
    };
    table(out, &[name, "requests", "refused", "share"], 1, rows.iter().map(cells));
}

/// A table whose first columns are texts.
fn table(out: &mut String, head: &[&str], texts: usize, rows: impl Iterator<Item = Vec<String>>) {
    let row = |out: &mut String, tag: &str, cells: &[String]| {
        out.push_str("<tr>");
        for (at, cell) in cells.iter().enumerate() {
            let class = if at < texts { " class=\"left\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        out.push_str("</tr>\n");
    };
    out.push_str("<div class=\"scroll\"><table>\n");
    row(out, "th", &head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    rows.for_each(|cells| row(out, "td", &cells));
    out.push_str("</table></div>\n");
}

fn list(out: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<ul>\n");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", escaped(line));
    }
    out.push_str("</ul>\n");
}

//! What a reader must know about the log and about each replay: one line each.

use super::numbers::{count, duration, percent, target};
use super::{Replay, Report};
use crate::format::date_and_time;
use crate::tally::{Tally, share};
use crate::trace::{STATUS_CLASSES, Trace};

/// How many keys are few.
const FEW: usize = 10;

impl Report<'_> {
    /// The notes on the log and on the use of its lines.
    pub(super) fn notes(&self) -> Vec<String> {
        let (notes, requests) = (&self.trace.notes, self.trace.len() as u64);
        let mut lines = vec![format!(
            "Lines: {} ({}), requests: {}",
            count(notes.lines),
            notes.formats.join(", "),
            count(requests)
        )];
        if let Some((first, last)) = self.trace.span() {
            let (from, to) = (date_and_time(first), date_and_time(last));
            lines.push(format!("Time: {from} to {to} UTC ({})", duration(last - first)));
        }
        for (number, what) in [
            (notes.bad_lines, "Lines that are not readable, and left out"),
            (notes.outside, "Lines outside --from and --to"),
            (notes.without_client, "Lines without a client, which share one key"),
        ] {
            if number > 0 {
                lines.push(format!("{what}: {}", count(number)));
            }
        }
        if notes.out_of_order > 0 {
            let (lines_late, latest) = (count(notes.out_of_order), duration(notes.latest_ms));
            lines.push(format!("Lines that are earlier than a line before them: {lines_late}, by at most {latest}"));
            lines.push("All requests were put in the order of their times".into());
        }
        if notes.is_spread {
            lines.push("The times are whole seconds; the requests of each second were spread evenly over it".into());
        }
        lines
    }
}

impl Replay {
    /// What is special about this replay.
    pub(super) fn notes(&self, trace: &Trace) -> Vec<String> {
        let tally = &self.tally;
        let mut lines: Vec<String> = self.smallest().into_iter().collect();
        lines.extend(tally.reasons.iter().map(|(reason, requests)| format!("{reason}: {}", count(*requests))));
        if tally.refused > 0 {
            lines.push(format!("The refused requests by the status in the log: {}", statuses(tally)));
            let keys = tally.refused_keys();
            let most: u64 = keys.iter().take(FEW).map(|(_, refused)| u64::from(*refused)).sum();
            if keys.len() > FEW {
                let part = percent(share(most, tally.refused));
                lines.push(format!("The {FEW} keys with the most refusals have {part} of them"));
            }
        }
        if tally.overflow > 0 {
            let decisions = count(tally.overflow);
            lines.push(format!("Decisions for keys that shared a budget, because --max-keys were in use: {decisions}"));
        }
        if tally.not_http > 0 {
            let (left_out, all) = (count(tally.not_http), count(trace.len() as u64));
            lines.push(format!("Lines that are no HTTP request for a layer, and left out: {left_out} of {all}"));
        }
        lines
    }

    /// The smallest limit for the target, if there is a target.
    fn smallest(&self) -> Option<String> {
        let curve = self.curve.as_ref()?;
        let most = target(curve.target?);
        Some(match curve.smallest {
            Some(size) => {
                let (limit, refused) = (self.policy.at(size), percent(curve.shares[&size]));
                format!("The smallest limit that refuses at most {most} is {limit}, which refuses {refused}")
            }
            None => format!("No size of this policy refuses at most {most}"),
        })
    }
}

/// The refused requests of each class of statuses.
fn statuses(tally: &Tally) -> String {
    let classes = STATUS_CLASSES.iter().zip(tally.refused_with).filter(|(_, requests)| *requests > 0);
    classes.map(|(class, requests)| format!("{class} {}", count(requests))).collect::<Vec<_>>().join(", ")
}

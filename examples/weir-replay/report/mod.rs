//! The report: as text for a terminal, and as an HTML page.

mod html;
mod notes;
mod numbers;
mod page;
mod plot;
mod scale;
mod text;

use crate::policy::Policy;
use crate::search::Curve;
use crate::tally::Tally;
use crate::trace::Trace;

pub(crate) use self::page::page;
pub(crate) use self::text::text;

/// All that a report shows.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) files: &'a [String],
    pub(crate) replays: &'a [Replay],
    /// The rows of a table, at most.
    pub(crate) rows: usize,
}

/// A policy with its decisions.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) policy: Policy,
    pub(crate) tally: Tally,
    pub(crate) curve: Option<Curve>,
}

/// A row for a time bucket or a key: its name, its requests, and how many of them were refused.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
}

impl Replay {
    /// The time buckets with the most refusals, in the order of time.
    fn worst_times(&self, rows: usize) -> Vec<Row> {
        let (tally, buckets) = (&self.tally, self.tally.buckets);
        let mut worst: Vec<usize> = (0..buckets.count).filter(|bucket| tally.refused_in[*bucket] > 0).collect();
        worst.sort_by_key(|bucket| (std::cmp::Reverse(tally.refused_in[*bucket]), *bucket));
        worst.truncate(rows);
        worst.sort_unstable();
        let row = |bucket: usize| Row {
            name: crate::format::date_and_time(buckets.start_of(bucket)),
            requests: tally.offered_in[bucket],
            refused: tally.refused_in[bucket],
        };
        worst.into_iter().map(row).collect()
    }

    /// The keys with the most refusals, and how many others have some.
    fn worst_keys(&self, trace: &Trace, rows: usize) -> (Vec<Row>, usize) {
        let (keys, column) = (self.tally.refused_keys(), self.policy.keys(trace));
        let row = |&(key, refused): &(u32, u32)| Row {
            name: crate::key::readable(&column.parts, column.keys.key(key)),
            requests: self.tally.offered_by[key as usize].into(),
            refused: refused.into(),
        };
        (keys.iter().take(rows).map(row).collect(), keys.len().saturating_sub(rows))
    }
}

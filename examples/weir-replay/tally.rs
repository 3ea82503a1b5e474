//! What a policy did to the requests.

use std::collections::BTreeMap;

use crate::trace::{Column, STATUS_CLASSES, Trace};

/// The widths of the time buckets, in seconds.
const WIDTHS: [u64; 16] =
    [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000, 31_536_000];
/// The most buckets, if a width of the list is enough.
const MOST_BUCKETS: u64 = 180;

/// Equal parts of the time of a log, which begin at whole multiples of their width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) start_ms: u64,
    pub(crate) width_ms: u64,
    pub(crate) count: usize,
}

impl Buckets {
    /// Buckets for a trace with at least one request.
    pub(crate) fn of((first, last): (u64, u64)) -> Self {
        let count = |width_ms: u64| last / width_ms - first / width_ms + 1;
        let widths = WIDTHS.iter().map(|seconds| seconds * 1_000);
        let width_ms = widths.clone().find(|width| count(*width) <= MOST_BUCKETS).unwrap_or(WIDTHS[15] * 1_000);
        // Only a wrong time makes a log as long as centuries.
        let count = usize::try_from(count(width_ms).min(10_000)).unwrap_or(0);
        Self { start_ms: first / width_ms * width_ms, width_ms, count }
    }

    /// The bucket of a time.
    pub(crate) fn of_time(&self, ms: u64) -> usize {
        let bucket = (ms - self.start_ms) / self.width_ms;
        usize::try_from(bucket).unwrap_or(usize::MAX).min(self.count - 1)
    }

    /// When a bucket begins.
    pub(crate) fn start_of(&self, bucket: usize) -> u64 {
        self.start_ms + self.width_ms * bucket as u64
    }

    /// The width for people, such as `10 s` or `minute`.
    pub(crate) fn width(&self) -> String {
        match self.width_ms / 1_000 {
            1 => "second".into(),
            60 => "minute".into(),
            3_600 => "hour".into(),
            86_400 => "day".into(),
            seconds if seconds < 60 => format!("{seconds} s"),
            seconds if seconds < 3_600 => format!("{} min", seconds / 60),
            seconds if seconds < 86_400 => format!("{} h", seconds / 3_600),
            seconds => format!("{} d", seconds / 86_400),
        }
    }
}

/// The decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Admitted,
    Refused,
}

/// Counts the decisions of a policy.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) offered_in: Vec<u64>,
    pub(crate) refused_in: Vec<u64>,
    /// By the number of the key.
    pub(crate) offered_by: Vec<u32>,
    pub(crate) refused_by: Vec<u32>,
    /// By the class of the status that the log has.
    pub(crate) refused_with: [u64; STATUS_CLASSES.len()],
    /// Decisions for keys that shared a budget, because the store was full.
    pub(crate) overflow: u64,
    /// For a whole policy: the refused requests by limit and reason, also those that limits in shadow would refuse.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// For a whole policy: lines that are no HTTP request, which a layer would not see.
    pub(crate) not_http: u64,
    pub(crate) buckets: Buckets,
}

impl Tally {
    pub(crate) fn new(buckets: Buckets, column: &Column) -> Self {
        Self {
            requests: 0,
            refused: 0,
            offered_in: vec![0; buckets.count],
            refused_in: vec![0; buckets.count],
            offered_by: vec![0; column.keys.len()],
            refused_by: vec![0; column.keys.len()],
            refused_with: [0; STATUS_CLASSES.len()],
            overflow: 0,
            reasons: BTreeMap::new(),
            not_http: 0,
            buckets,
        }
    }

    /// Counts a decision on the request with this number.
    pub(crate) fn count(&mut self, trace: &Trace, column: &Column, request: usize, answer: Answer) {
        let (key, bucket) = (column.ids[request] as usize, self.buckets.of_time(trace.times[request]));
        self.requests += 1;
        self.offered_in[bucket] += 1;
        self.offered_by[key] += 1;
        if answer == Answer::Refused {
            self.refused += 1;
            self.refused_in[bucket] += 1;
            self.refused_by[key] += 1;
            self.refused_with[usize::from(trace.statuses[request])] += 1;
        }
    }

    /// The refused part of the requests, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        share(self.refused, self.requests)
    }

    /// How many keys had a request.
    pub(crate) fn keys(&self) -> usize {
        self.offered_by.iter().filter(|offered| **offered > 0).count()
    }

    /// How many keys had a refusal.
    pub(crate) fn keys_refused(&self) -> usize {
        self.refused_by.iter().filter(|refused| **refused > 0).count()
    }

    /// The refused keys: their numbers, and how many of their requests were refused, the most first.
    pub(crate) fn refused_keys(&self) -> Vec<(u32, u32)> {
        let mut keys: Vec<(u32, u32)> = (0..).zip(self.refused_by.iter().copied()).filter(|key| key.1 > 0).collect();
        keys.sort_by_key(|(key, refused)| (std::cmp::Reverse(*refused), *key));
        keys
    }
}

/// A part of a whole, from 0 to 1.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

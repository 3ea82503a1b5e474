//! The requests of a log in memory: about 13 bytes each, and each distinct key once.

use foldhash::fast::RandomState;

use crate::batch::{Batch, Shown};
use crate::interner::Interner;
use crate::key::Parts;

/// The classes of a status: 1xx to 5xx, and others.
pub(crate) const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All requests, in the order in which they are replayed.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Milliseconds since 1970.
    pub(crate) times: Vec<u64>,
    /// Indices of [`STATUS_CLASSES`].
    pub(crate) statuses: Vec<u8>,
    /// One for each kind of key.
    pub(crate) columns: Vec<Column>,
    pub(crate) notes: Notes,
}

/// The keys of all requests.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) parts: Parts,
    /// The number of each request's key.
    pub(crate) ids: Vec<u32>,
    pub(crate) keys: Interner,
}

/// What a reader of the report must know about the log.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) lines: u64,
    pub(crate) bad_lines: u64,
    /// The first bad lines.
    pub(crate) bad: Vec<Shown>,
    /// Lines before `--from`, or after `--to`.
    pub(crate) outside: u64,
    pub(crate) without_client: u64,
    /// Lines with an earlier time than a line before them.
    pub(crate) out_of_order: u64,
    /// The most that such a line was late.
    pub(crate) latest_ms: u64,
    /// Whether the requests of each second were spread over it, because the log has whole seconds.
    pub(crate) is_spread: bool,
    /// The formats of the files, in the order of the files, each once.
    pub(crate) formats: Vec<String>,
}

/// How many bad lines are shown.
const SHOWN: usize = 5;

impl Trace {
    /// Creates a trace with the keys that the policies need.
    pub(crate) fn new(columns: &[Parts], hasher: &RandomState) -> Self {
        let column =
            |parts: &Parts| Column { parts: parts.clone(), ids: Vec::new(), keys: Interner::new(hasher.clone()) };
        let columns = columns.iter().map(column).collect();
        Self { times: Vec::new(), statuses: Vec::new(), columns, notes: Notes::default() }
    }

    /// The number of requests.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// The times of the first and the last request.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        Some((*self.times.first()?, *self.times.last()?))
    }

    /// Adds the requests of the next lines. `first_line` is the number of the first one in its file.
    pub(crate) fn add(&mut self, batch: &Batch, file: &str, first_line: u64) {
        let notes = &mut self.notes;
        notes.lines += batch.lines;
        notes.bad_lines += batch.bad_lines;
        notes.outside += batch.outside;
        notes.without_client += batch.without_client;
        let room = SHOWN.saturating_sub(notes.bad.len());
        notes.bad.extend(batch.bad.iter().take(room).map(|bad| Shown {
            file: file.to_owned(),
            line: first_line + bad.line,
            ..bad.clone()
        }));
        self.times.extend_from_slice(&batch.times);
        self.statuses.extend_from_slice(&batch.statuses);
        for (column, keys) in self.columns.iter_mut().zip(&batch.keys) {
            let mut start = 0;
            for (end, hash) in keys.ends.iter().zip(&keys.hashes) {
                let end = *end as usize;
                column.ids.push(column.keys.number(*hash, &keys.bytes[start..end]));
                start = end;
            }
        }
    }

    /// Puts the requests in the order of their times. Requests with one time keep the order of their lines.
    ///
    /// If no line has less than seconds, the requests of each second are spread evenly over it. Otherwise a limit in
    /// seconds would see them all at once, and would hold them for a second too long.
    pub(crate) fn finish(&mut self, has_fractions: bool, spread: bool) {
        let mut latest = 0;
        for &time in &self.times {
            if time < latest {
                self.notes.out_of_order += 1;
                self.notes.latest_ms = self.notes.latest_ms.max(latest - time);
            }
            latest = latest.max(time);
        }
        if self.notes.out_of_order > 0 {
            // A log has less than 2^32 lines.
            let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
            order.sort_by_key(|at| self.times[*at as usize]);
            self.times = reordered(&self.times, &order);
            self.statuses = reordered(&self.statuses, &order);
            self.columns.iter_mut().for_each(|column| column.ids = reordered(&column.ids, &order));
        }
        if spread && !has_fractions {
            self.notes.is_spread = true;
            for second in self.times.chunk_by_mut(|one, next| one == next) {
                let requests = second.len() as u64;
                for (at, time) in (0..).zip(second) {
                    *time += at * 1_000 / requests;
                }
            }
        }
    }
}

fn reordered<T: Copy>(values: &[T], order: &[u32]) -> Vec<T> {
    order.iter().map(|at| values[*at as usize]).collect()
}

//! The requests of a block of lines, which threads read independently of each other.

use std::hash::BuildHasher as _;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::format::{Parser, Record};
use crate::key::{self, Parts};

/// The requests of some lines.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: u64,
    pub(crate) times: Vec<u64>,
    pub(crate) statuses: Vec<u8>,
    /// One for each column of the trace.
    pub(crate) keys: Vec<Keys>,
    pub(crate) has_fractions: bool,
    pub(crate) without_client: u64,
    pub(crate) outside: u64,
    pub(crate) bad_lines: u64,
    pub(crate) bad: Vec<Shown>,
}

/// One key for each request.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    pub(crate) hashes: Vec<u64>,
}

/// A bad line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) file: String,
    pub(crate) line: u64,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

/// What is the same for all lines.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) columns: Vec<Parts>,
    /// The times to replay, in milliseconds since 1970.
    pub(crate) times: Range<u64>,
    pub(crate) hasher: RandomState,
}

/// The bad lines of a batch that may be shown.
const SHOWN: usize = 5;

impl Batch {
    /// Reads a block of lines.
    pub(crate) fn read(block: &[u8], parser: &mut Parser, record: &mut Record, wanted: &Wanted) -> Self {
        let mut batch = Self::default();
        batch.keys.resize_with(wanted.columns.len(), Keys::default);
        let mut start = 0;
        while start < block.len() {
            let end = memchr::memchr(b'\n', &block[start..]).map_or(block.len(), |length| start + length);
            batch.add_line(&block[start..end], parser, record, wanted);
            start = end + 1;
        }
        batch
    }

    fn add_line(&mut self, line: &[u8], parser: &mut Parser, record: &mut Record, wanted: &Wanted) {
        self.lines += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            return;
        }
        if let Err(reason) = parser.parse(line, record) {
            self.bad_lines += 1;
            if self.bad.len() < SHOWN {
                let (file, line, text) = (String::new(), self.lines - 1, key::printable(line));
                self.bad.push(Shown { file, line, reason, text });
            }
            return;
        }
        if !wanted.times.contains(&record.time_ms) {
            self.outside += 1;
            return;
        }
        self.has_fractions |= record.has_fraction;
        self.without_client += u64::from(record.client.is_empty());
        self.times.push(record.time_ms);
        self.statuses.push(match record.status / 100 {
            class @ 1..=5 => class as u8,
            _ => 0,
        });
        for (parts, keys) in wanted.columns.iter().zip(&mut self.keys) {
            let start = keys.bytes.len();
            key::write(parts, record, &mut keys.bytes);
            keys.hashes.push(wanted.hasher.hash_one(&keys.bytes[start..]));
            // A block is much smaller than 4 GiB.
            keys.ends.push(keys.bytes.len() as u32);
        }
    }
}

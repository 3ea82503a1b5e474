//! The last 30 seconds, in slices of 100 ms that all plots share.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The length of a slice, in milliseconds.
pub(crate) const SLICE_MS: u64 = 100;
/// The number of slices in a plot.
pub(crate) const SLICES: usize = 300;

/// Measures the time since the program started. Copies share the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds since the start, rounded down.
    pub(crate) fn ms(self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    /// Whole milliseconds since the start, rounded up.
    pub(crate) fn ms_rounded_up(self) -> u64 {
        self.elapsed().as_micros().div_ceil(1_000) as u64
    }
}

/// One value for each slice of the recent past.
#[derive(Debug)]
pub(crate) struct Series {
    /// Ends with the slice of the last write.
    values: VecDeque<f64>,
    slice: u64,
}

impl Series {
    pub(crate) fn new() -> Self {
        Self { values: VecDeque::from([0.0]), slice: 0 }
    }

    /// Adds to the value of the slice at this time.
    pub(crate) fn add(&mut self, at_ms: u64, more: f64) {
        *self.at(at_ms) += more;
    }

    /// Raises the value of the slice at this time to at least this value.
    pub(crate) fn raise(&mut self, at_ms: u64, value: f64) {
        let slot = self.at(at_ms);
        *slot = slot.max(value);
    }

    fn at(&mut self, at_ms: u64) -> &mut f64 {
        let slice = at_ms / SLICE_MS;
        let newer = slice.saturating_sub(self.slice);
        for _ in 0..newer.min(SLICES as u64 + 2) {
            self.values.push_back(0.0);
        }
        self.slice += newer;
        while self.values.len() > SLICES + 2 {
            self.values.pop_front();
        }
        // A result of Redis may arrive after the slice has ended. A later one counts in the oldest slice.
        let back = (self.slice - slice.min(self.slice)).min(self.values.len() as u64 - 1) as usize;
        let index = self.values.len() - 1 - back;
        &mut self.values[index]
    }

    /// The values of the complete slices before this time, the newest last. They begin with the program.
    pub(crate) fn complete(&mut self, now_ms: u64) -> Vec<f64> {
        self.at(now_ms);
        let len = self.values.len() - 1;
        self.values.iter().take(len).skip(len.saturating_sub(SLICES)).copied().collect()
    }
}

//! The counts of the requests of one limit or one instance.

use crate::history::Series;
use crate::meter::Meter;

/// Requests and admissions, over time and in windows.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) meter: Meter,
    pub(crate) offered: Series,
    pub(crate) admitted: Series,
    pub(crate) in_use: Series,
}

impl Track {
    pub(crate) fn new(window_ms: u64) -> Self {
        Self { meter: Meter::new(window_ms), offered: Series::new(), admitted: Series::new(), in_use: Series::new() }
    }

    /// Counts a request that was decided between two times.
    pub(crate) fn count(&mut self, is_admitted: bool, earliest_ms: u64, latest_ms: u64) {
        self.offered.add(latest_ms, 1.0);
        if is_admitted {
            self.admitted.add(latest_ms, 1.0);
            self.meter.admit(earliest_ms, latest_ms);
        }
        self.look(latest_ms);
    }

    /// Records the units in use. Call it at least once in each slice.
    pub(crate) fn look(&mut self, now_ms: u64) {
        let used = self.meter.used(now_ms);
        self.in_use.raise(now_ms, used as f64);
    }
}

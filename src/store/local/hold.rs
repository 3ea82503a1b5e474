//! Units of a local store that are spent over time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::decision::Decision;
use crate::engine::Limit;
use crate::geometry::WindowGeometry;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{WindowTable, Windows};
use crate::store::budget::{BudgetChange, Hold};
use crate::time::{TimeSource, millis};

/// Charged units of one key, all in one bucket. Spending moves them to the current bucket, so a spent unit counts for a
/// whole window from then on.
pub(super) struct LocalHold {
    table: Arc<WindowTable>,
    time: TimeSource,
    geometry: WindowGeometry,
    print: Fingerprint,
    /// The tick of the bucket.
    stamp: u64,
    left: u64,
    /// No unit is spent from this instant on.
    end_ms: u64,
}

impl LocalHold {
    /// Holds units that were charged at a tick.
    pub(super) fn new(
        windows: &Windows,
        table: &Arc<WindowTable>,
        key: &[u8],
        (stamp, units): (u64, u64),
        ttl: Duration,
    ) -> Self {
        let (time, print) = (windows.time.clone(), table.fingerprint(key));
        let end_ms = time.now_ms().saturating_add(millis(ttl));
        let geometry = windows.geometry;
        Self { table: Arc::clone(table), time, geometry, print, stamp, left: units, end_ms }
    }

    /// Decides on more units of the same key.
    pub(super) fn decide(&self, units: u64, limit: Limit) -> Decision {
        let now_ms = self.time.now_ms();
        let (outcome, _) = self.table.absolute(self.print, self.geometry.at(now_ms), units, &[limit]);
        self.geometry.decision(&outcome, units, &[limit], now_ms)
    }

    /// Frees the rest.
    pub(super) fn free(&mut self) {
        let (stamp, left) = (self.stamp, std::mem::take(&mut self.left));
        if left > 0 {
            let now = self.geometry.at(self.time.now_ms());
            self.table.settle(self.print, |window, horizon| window.refund(now, stamp, left, horizon));
        }
    }

    /// Moves the units to the current bucket.
    #[inline]
    fn follow(&mut self, now_ms: u64) {
        let now = self.geometry.at(now_ms);
        if now > self.stamp && self.left > 0 {
            let (stamp, left) = (self.stamp, self.left);
            let moved = self.table.settle(self.print, |window, horizon| window.redate(now, stamp, left, horizon));
            // Others may have reset the key.
            (self.left, self.stamp) = moved.unwrap_or((0, now));
        }
    }
}

impl Hold for LocalHold {
    fn spend(&mut self, units: u64) -> bool {
        let now_ms = self.time.now_ms();
        if now_ms >= self.end_ms {
            return false;
        }
        self.follow(now_ms);
        let left = self.left.checked_sub(units);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn left(&self) -> u64 {
        self.left
    }

    fn end(&mut self) -> BudgetChange {
        self.free();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for LocalHold {
    fn drop(&mut self) {
        self.free();
    }
}

impl fmt::Debug for LocalHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHold").field("left", &self.left).finish_non_exhaustive()
    }
}

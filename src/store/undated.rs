//! Units of a decision that cannot be dated again.

use std::fmt;
use std::time::{Duration, Instant};

use super::budget::{BudgetChange, Hold};

/// Units that stay dated at their decision. The rest is refunded by a function.
pub(crate) struct Undated<F: FnMut(u64)> {
    left: u64,
    since: Instant,
    ttl: Duration,
    refund: F,
}

impl<F: FnMut(u64)> Undated<F> {
    pub(crate) fn new(units: u64, ttl: Duration, refund: F) -> Self {
        Self { left: units, since: Instant::now(), ttl, refund }
    }

    fn refund(&mut self) {
        match std::mem::take(&mut self.left) {
            0 => {}
            left => (self.refund)(left),
        }
    }
}

impl<F: FnMut(u64) + Send + Sync> Hold for Undated<F> {
    fn spend(&mut self, units: u64) -> bool {
        let left = self.left.checked_sub(units).filter(|_| self.since.elapsed() < self.ttl);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn left(&self) -> u64 {
        self.left
    }

    fn end(&mut self) -> BudgetChange {
        self.refund();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl<F: FnMut(u64)> Drop for Undated<F> {
    fn drop(&mut self) {
        self.refund();
    }
}

impl<F: FnMut(u64)> fmt::Debug for Undated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undated").field("left", &self.left).finish_non_exhaustive()
    }
}

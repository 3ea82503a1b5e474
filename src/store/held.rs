//! Holds of units, also by stores that cannot date units again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Budget, BudgetChange, Hold};
use crate::decision::Decision;
use crate::error::StoreError;

/// Holds the units of a decision. A store that cannot date them again keeps them as they are.
pub(crate) async fn hold(
    budget: &Arc<dyn Budget>,
    key: &[u8],
    units: u64,
    decision: &Decision,
    ttl: Duration,
) -> Result<Box<dyn Hold>, StoreError> {
    match budget.hold(key, units, decision, ttl) {
        Some(hold) => hold.await,
        None => {
            let (budget, key, decision) = (Arc::clone(budget), Box::<[u8]>::from(key), *decision);
            Ok(Box::new(Undated::new(units, ttl, move |left| budget.refund(&key, left, &decision))))
        }
    }
}

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

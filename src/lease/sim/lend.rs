//! The size and life of a lease: the model of `share` in `lease.lua`.

use super::model::{Loan, Model, Policy};
use crate::script::SyncRequest;

/// The lease that one instance may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) units: u64,
    pub(super) horizon_ms: u64,
    pub(super) ask_again_ms: u64,
    /// The number of leases, of all instances.
    pub(super) count: usize,
    /// The fewest units that are worth a lease.
    pub(super) least: u64,
}

/// The free units of all limits, and of the tightest with its capacity; and the smallest capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    pub(super) free: u64,
    pub(super) free_of: u64,
    pub(super) capacity: u64,
    pub(super) smallest: u64,
}

impl Policy<'_> {
    fn interval(&self, bucket_ms: u64) -> u64 {
        u64::from(self.lending.interval_ms).min(self.window_ms(bucket_ms) / 4).max(1)
    }

    fn window_ms(&self, bucket_ms: u64) -> u64 {
        self.limits.iter().map(|limit| u64::from(limit.window)).min().unwrap_or(0) * bucket_ms
    }

    /// The spare time in a lease's life, for a lease that is no longer fresh.
    pub(super) fn spare_ms(&self, bucket_ms: u64) -> u64 {
        self.interval(bucket_ms).max(20)
    }

    /// The longest time until an instance syncs again.
    fn longest_ms(&self, bucket_ms: u64) -> u64 {
        let interval = self.interval(bucket_ms);
        (self.window_ms(bucket_ms) / 8).min(2_000).max(interval)
    }

    /// The most ticks between the start and the last tick of a lease.
    pub(super) fn longest_life(&self, bucket_ms: u64) -> u64 {
        (self.longest_ms(bucket_ms) + self.spare_ms(bucket_ms)) / bucket_ms + 2
    }

    pub(super) fn rate(&self, request: &SyncRequest) -> f64 {
        request.rate.clamp(0.0, (1_u64 << 40) as f64)
    }

    pub(super) fn share(&self, model: &Model, (now, now_ms): (u64, u64), request: &SyncRequest, free: Free) -> Share {
        let Free { free, free_of, capacity, smallest } = free;
        let (bucket_ms, rate) = (model.bucket_ms, self.rate(request));
        let interval = self.interval(bucket_ms);
        let leases: Vec<&Loan> = model.counting(now).filter(|loan| loan.units > 0).collect();
        let others = || leases.iter().filter(|loan| loan.id.nonce != request.id.nonce);
        let back_at = others().map(|loan| loan.last).min();
        let back_ms = |last: u64| (last * bucket_ms).saturating_sub(self.spare_ms(bucket_ms) + now_ms).max(interval);
        let rates: Vec<f64> = others().filter(|loan| loan.last >= now).map(|loan| loan.rate).collect();
        let (instances, others) = (1 + rates.len(), rates.iter().sum::<f64>());
        let tolerance = self.lending.tolerance;
        let spare = (smallest as f64 * tolerance / (1.0 + tolerance) / instances as f64 / 2.0).floor();
        let wish = |horizon: u64| (rate * horizon as f64 + (rate * horizon as f64).sqrt()).ceil();
        let mut horizon = self.longest_ms(bucket_ms);
        while horizon > interval && 2.0 * (free_of as f64 - wish(horizon)) < capacity as f64 && wish(horizon) > spare {
            horizon = interval.max(horizon / 2);
        }
        let units = if rate * (horizon as f64) < 1.0 {
            0.0
        } else {
            let fair = (2.0 * free as f64 * rate / (rate + others)).ceil();
            wish(horizon).min(fair).min((free - free / 4) as f64).max(1.0)
        };
        Share {
            units: units.min(free as f64) as u64,
            horizon_ms: horizon,
            ask_again_ms: back_at.map_or(0, back_ms),
            count: leases.len(),
            least: (spare as u64).max(1),
        }
    }
}

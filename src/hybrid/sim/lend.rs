//! How much the script lends, and for how long: the model of `share` in `lease.lua`.

use super::model::{Model, Policy};
use crate::redis::script::Part;

/// What one instance may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) units: u64,
    pub(super) horizon_ms: u64,
    pub(super) instances: u16,
    /// The fewest units that are worth a lease.
    pub(super) least: u64,
}

/// What is free: of all limits, and of the tightest, with its capacity; and the smallest capacity.
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

    /// For how long a lease may lie of which hardly anything is used.
    fn half(&self, bucket_ms: u64) -> u64 {
        (self.window_ms(bucket_ms) / 2).min(60_000)
    }

    /// For how long a lease may be spent that is no longer fresh.
    pub(super) fn spare_ms(&self, bucket_ms: u64) -> u64 {
        self.interval(bucket_ms).max(20)
    }

    /// The most ticks from when a lease is given to its last.
    pub(super) fn longest_life(&self, bucket_ms: u64) -> u64 {
        (self.half(bucket_ms).max(10 * self.interval(bucket_ms)) + self.spare_ms(bucket_ms)) / bucket_ms + 2
    }

    pub(super) fn rate(&self, part: &Part) -> f64 {
        part.rate.clamp(0.0, (1_u64 << 40) as f64)
    }

    pub(super) fn share(&self, model: &Model, now: u64, part: &Part, free: Free) -> Share {
        let Free { free, free_of, capacity, smallest } = free;
        let (interval, half, rate) = (self.interval(model.bucket_ms), self.half(model.bucket_ms), self.rate(part));
        let others: Vec<f64> = model
            .counting(now)
            .filter(|loan| loan.last >= now && loan.id.nonce != part.id.nonce)
            .map(|loan| loan.rate)
            .collect();
        let (instances, others) = (1 + others.len(), others.iter().sum::<f64>());
        let tolerance = self.lending.tolerance;
        let spare = (smallest as f64 * tolerance / (1.0 + tolerance) / instances as f64 / 2.0).floor();
        let wish = |horizon: u64| (rate * horizon as f64 + (rate * horizon as f64).sqrt()).ceil();
        let (mut units, mut horizon) = (0.0, interval);
        if rate * (interval as f64) < 1.0 {
            if half > interval && 4 * free_of >= 3 * capacity && rate * half as f64 >= 1.0 {
                horizon = half;
                units = (4.0 * rate * half as f64).ceil().min((free / (8 * instances as u64)) as f64);
            }
        } else {
            horizon = interval.max((self.window_ms(model.bucket_ms) / 8).min(10 * interval));
            while horizon > interval
                && 2.0 * (free_of as f64 - wish(horizon)) < capacity as f64
                && wish(horizon) > spare
            {
                horizon = interval.max(horizon / 2);
            }
            units = wish(horizon).min((2.0 * free as f64 * rate / (rate + others)).ceil()).max(1.0);
        }
        let (units, least) = (units.min(free as f64) as u64, (spare as u64).max(1));
        Share { units, horizon_ms: horizon, instances: u16::try_from(instances).unwrap_or(u16::MAX), least }
    }
}

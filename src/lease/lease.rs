//! Leased units: the instance spends them without a call, and reports them by age.

use crate::script::LeaseId;

/// The slots of a lease's life; units spent in one slot share a stamp.
const SLOTS: usize = 16;
/// One part in so many: the error of the speed of each clock, of this one and of the server's. Linux slews a clock by up
/// to 10 %.
const DRIFT: u64 = 8;

/// A lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    units: u64,
    left: u64,
    /// With fewer units left, the lease must be renewed.
    low: u64,
    /// No unit of the lease is spent from this instant on.
    deadline: u64,
    since: u64,
    slot_ms: u64,
    spent: [u64; SLOTS],
}

/// The least time that this clock shows while the server's clock shows `ms`, or the reverse.
pub(crate) fn min_elapsed(ms: u64) -> u64 {
    // One clock is fast and the other one is slow: (1 - 1/n) / (1 + 1/n) = 1 - 2/(n + 1).
    ms - ms.saturating_mul(2).div_ceil(DRIFT + 1)
}

/// The least time on one clock of which [`min_elapsed`] is `ms`.
pub(crate) fn life_for(ms: u64) -> u64 {
    // The inverse of 1 - 2/(n + 1).
    ms.saturating_add(ms.saturating_mul(2).div_ceil(DRIFT - 1)).saturating_add(1)
}

impl Lease {
    /// Creates a lease of `units`, which can be spent from `now` until `deadline`.
    pub(crate) fn new(id: LeaseId, units: u64, now: u64, deadline: u64, bucket_ms: u64) -> Self {
        let slot_ms = deadline.saturating_sub(now).div_ceil(SLOTS as u64).max(bucket_ms);
        Self { id, units, left: units, low: units / 4, deadline, since: now, slot_ms, spent: [0; SLOTS] }
    }

    /// Spends a cost, if enough units are left.
    #[inline]
    pub(crate) fn spend(&mut self, now: u64, cost: u64) -> bool {
        if now >= self.deadline || cost > self.left {
            return false;
        }
        self.left -= cost;
        self.spent[self.slot(now)] += cost;
        true
    }

    /// Whether the lease runs low. It returns true once.
    #[inline]
    pub(crate) fn runs_low(&mut self) -> bool {
        let is_low = self.left < self.low;
        if is_low {
            self.low = 0;
        }
        is_low
    }

    /// Refunds units of this lease spent at `stamp`, which can then be spent again; returns their number.
    pub(crate) fn refund(&mut self, stamp: u64, cost: u64) -> u64 {
        let slot = self.slot(stamp);
        let units = cost.min(self.spent[slot]);
        self.spent[slot] -= units;
        self.left += units;
        units
    }

    fn slot(&self, now: u64) -> usize {
        let slot = now.saturating_sub(self.since) / self.slot_ms;
        usize::try_from(slot).unwrap_or(SLOTS).min(SLOTS - 1)
    }

    /// The units that can be spent at `now`.
    #[inline]
    pub(crate) fn left(&self, now: u64) -> u64 {
        if now < self.deadline { self.left } else { 0 }
    }

    /// The unspent units, even if the time to spend them is over.
    pub(crate) fn unspent(&self) -> u64 {
        self.left
    }

    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// The units spent since an instant, or slightly before it.
    pub(crate) fn spent_since(&self, from: u64) -> u64 {
        self.spent().filter(|&(before, _)| before > from).map(|(_, units)| units).sum()
    }

    /// The units of the lease.
    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    /// The spent units.
    pub(crate) fn used(&self) -> u64 {
        self.units - self.left
    }

    /// The spent units, oldest first, each with an instant before which it was spent by this clock.
    pub(crate) fn spent(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = |slot: usize| self.since + (slot as u64 + 1) * self.slot_ms;
        self.spent.iter().enumerate().filter(|&(_, &units)| units > 0).map(move |(slot, &units)| (end(slot), units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lease lasts from 1000 until 1160, in slots of 10 ms.
    fn lease(units: u64) -> Lease {
        Lease::new(LeaseId { nonce: 1, counter: 1 }, units, 1_000, 1_160, 10)
    }

    #[test]
    fn all_units_can_be_spent_until_the_deadline_and_no_more() {
        let mut lease = lease(3);
        assert!(lease.spend(1_000, 2) && !lease.spend(1_000, 2) && lease.spend(1_159, 1));
        assert_eq!((lease.used(), lease.unspent(), lease.left(1_159)), (3, 0, 0));
        let mut late = super::tests::lease(3);
        assert!(!late.spend(1_160, 1) && late.left(1_160) == 0);
        assert_eq!(late.unspent(), 3, "unspent units must be returned");
    }

    #[test]
    fn units_spent_in_a_slot_are_dated_at_its_end() {
        let mut lease = lease(100);
        // These callers read the clock before the lease began, and just before its end.
        for (now, units) in [(990, 1), (1_009, 2), (1_010, 4), (1_159, 8)] {
            assert!(lease.spend(now, units));
        }
        assert_eq!(lease.spent().collect::<Vec<_>>(), [(1_010, 3), (1_020, 4), (1_160, 8)]);
    }

    #[test]
    fn a_refund_returns_only_units_spent_at_its_stamp() {
        let mut lease = lease(5);
        assert!(lease.spend(1_000, 2) && lease.spend(1_050, 3));
        assert_eq!(lease.refund(1_051, 9), 3, "no more than was spent");
        assert_eq!(lease.refund(1_051, 1), 0);
        assert_eq!((lease.used(), lease.left(1_100)), (2, 3));
    }

    /// The shortest time on the slower clock covers what the faster clock shows.
    #[test]
    fn an_interval_by_this_clock_is_no_longer_than_by_one_that_runs_slower() {
        for ms in [0_u64, 1, 2, 8, 9, 10, 1_000, 3_600_000] {
            let (slow, fast) = (DRIFT - 1, DRIFT + 1);
            assert!(min_elapsed(ms) * fast <= ms * slow, "{ms}");
            assert!((min_elapsed(ms) + 1) * fast > ms * slow, "{ms} becomes {}", min_elapsed(ms));
            assert!(min_elapsed(life_for(ms)) >= ms && life_for(ms) <= ms + 2 * ms.div_ceil(7) + 2, "{ms}");
        }
    }
}

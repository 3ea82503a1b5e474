//! Units that were lent: spent here without asking, and accounted for by age.

/// Parts of a lease's life in which what is spent is counted together.
const SLOTS: usize = 16;
/// One part in so many: by how much this clock and the server's may drift apart.
const DRIFT: u64 = 64;

/// A lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) counter: u32,
    units: u64,
    left: u64,
    /// From this instant on nothing of it is spent.
    deadline: u64,
    since: u64,
    slot_ms: u64,
    spent: [u64; SLOTS],
}

/// How long of this clock's time surely passes within `ms` of the server's; also the reverse.
pub(super) fn surely(ms: u64) -> u64 {
    ms - ms.div_ceil(DRIFT)
}

impl Lease {
    /// A lease of some units that is spent from `now` until `deadline`.
    pub(super) fn new(counter: u32, units: u64, now: u64, deadline: u64, bucket_ms: u64) -> Self {
        let slot_ms = deadline.saturating_sub(now).div_ceil(SLOTS as u64).max(bucket_ms);
        Self { counter, units, left: units, deadline, since: now, slot_ms, spent: [0; SLOTS] }
    }

    /// Spends a cost, if it is there.
    #[inline]
    pub(super) fn spend(&mut self, now: u64, cost: u64) -> bool {
        if now >= self.deadline || cost > self.left {
            return false;
        }
        self.left -= cost;
        self.spent[self.slot(now)] += cost;
        true
    }

    /// Takes back what was spent at `stamp`, and gives what there was of it back to be spent.
    pub(super) fn refund(&mut self, stamp: u64, cost: u64) -> u64 {
        if stamp < self.since || stamp >= self.deadline {
            return 0;
        }
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

    /// Units that may be spent at `now`.
    #[inline]
    pub(super) fn left(&self, now: u64) -> u64 {
        if now < self.deadline { self.left } else { 0 }
    }

    /// Units that nobody has spent, whether they still may be or not.
    pub(super) fn unspent(&self) -> u64 {
        self.left
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Units that were spent.
    pub(super) fn used(&self) -> u64 {
        self.units - self.left
    }

    /// What was spent, oldest first: an instant before which each was, by this clock, and the units.
    pub(super) fn spent(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = |slot: usize| self.since + (slot as u64 + 1) * self.slot_ms;
        self.spent.iter().enumerate().filter(|&(_, &units)| units > 0).map(move |(slot, &units)| (end(slot), units))
    }
}

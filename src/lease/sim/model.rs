//! The script's effect on one key by the absolute strategy: units by tick, and a list of leases.

use std::collections::BTreeMap;

use super::lend::Free;
use super::setup::Without;
use crate::decision::Verdict;
use crate::engine::{Limit, NEVER, Outcome};
use crate::script::{Ask, LeaseId, Lending, ReportKind, SyncReply, SyncRequest};

/// The units that an instance holds; without units, it is the mark of a report.
#[derive(Clone, Debug)]
pub(super) struct Loan {
    pub(super) id: LeaseId,
    /// The last tick at which they can be spent.
    pub(super) last: u64,
    pub(super) units: u64,
    pub(super) rate: f64,
}

/// The reply without a lease.
pub(super) const NOTHING: SyncReply = SyncReply {
    is_lost: false,
    binding: 0,
    units: 0,
    free: 0,
    used: 0,
    held: 0,
    fits_at: 0,
    used_then: 0,
    life_ms: 0,
    horizon_ms: 0,
    ask_again_ms: 0,
    ratio: 1.0,
    epoch: 0,
    ttl_ms: 0,
};

/// The limits, and the parameters of leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy<'a> {
    pub(super) limits: &'a [Limit],
    pub(super) lending: Lending,
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) bucket_ms: u64,
    /// For how many ticks the model retains units.
    kept: u64,
    is_known: bool,
    /// The newest tick of a unit; for an unknown key, the current tick.
    open: u64,
    units: BTreeMap<u64, u64>,
    loans: Vec<Loan>,
    pub(super) epoch: u32,
    ends_ms: u64,
    /// The number of times that the key expired.
    pub(super) ended: u32,
    is_changed: bool,
    without: Without,
}

/// The units held against one limit.
#[derive(Clone, Copy)]
struct Lookback {
    live: u64,
    lent: u64,
}

impl Lookback {
    fn used(self) -> u64 {
        self.live + self.lent
    }
}

impl Model {
    pub(super) fn new(bucket_ms: u64, kept: u32) -> Self {
        Self {
            bucket_ms,
            kept: u64::from(kept),
            is_known: false,
            open: 0,
            units: BTreeMap::new(),
            loans: Vec::new(),
            epoch: 0,
            ends_ms: u64::MAX,
            ended: 0,
            is_changed: false,
            without: Without::Nothing,
        }
    }

    /// Returns the model without one part of the protocol.
    pub(super) fn without(self, without: Without) -> Self {
        Self { without, ..self }
    }

    /// Loses all data.
    pub(super) fn lose(&mut self) {
        *self = Self { ended: self.ended, without: self.without, ..Self::new(self.bucket_ms, self.kept as u32) };
    }

    /// Deletes the key, if it has expired.
    pub(super) fn end(&mut self, now_ms: u64) {
        if now_ms >= self.ends_ms {
            self.lose();
            self.ended += 1;
        }
    }

    /// Begins a call; returns the tick of its decision.
    fn load(&mut self, now_ms: u64) -> u64 {
        let clock = now_ms / self.bucket_ms;
        self.is_changed = false;
        if !self.is_known {
            self.open = clock;
        }
        clock.max(self.open)
    }

    /// Ends a call; returns the key's new time to live, if the key has changed.
    fn store(&mut self, now: u64, now_ms: u64) -> u32 {
        if !self.is_changed {
            return 0;
        }
        let (kept, open) = (self.kept, self.open);
        self.loans.retain(|loan| now.saturating_sub(loan.last) <= kept);
        self.units.retain(|tick, _| open.saturating_sub(*tick) <= kept);
        let last = self.loans.iter().map(|loan| loan.last).fold(now, u64::max);
        let life = (last - now_ms / self.bucket_ms + kept + 2) * self.bucket_ms;
        self.ends_ms = now_ms + life;
        u32::try_from(life).unwrap_or(u32::MAX)
    }

    fn change(&mut self) {
        (self.is_known, self.is_changed) = (true, true);
    }

    /// Adds units at a tick that is not in the future.
    fn charge(&mut self, now: u64, tick: u64, units: u64) {
        if now.saturating_sub(tick) > self.kept {
            return;
        }
        *self.units.entry(tick).or_default() += units;
        self.open = self.open.max(tick);
        self.change();
    }

    /// The leases that count.
    pub(super) fn counting(&self, now: u64) -> impl Iterator<Item = &Loan> {
        self.loans.iter().filter(move |loan| now.saturating_sub(loan.last) <= self.kept)
    }

    fn view(&self, now: u64, span: u32) -> Lookback {
        let oldest = now.saturating_sub(u64::from(span));
        let live = self.units.range(oldest..).map(|(_, units)| units).sum();
        let lent = self.counting(now).filter(|loan| loan.last >= oldest).map(|loan| loan.units).sum();
        Lookback { live, lent }
    }

    /// The units held within a span.
    pub(super) fn used(&self, now_ms: u64, span: u32) -> u64 {
        if !self.is_known || now_ms >= self.ends_ms {
            return 0;
        }
        self.view((now_ms / self.bucket_ms).max(self.open), span).used()
    }

    /// Returns the first tick at which a cost fits under a capacity, and the units that count then.
    fn fits_at(&self, now: u64, span: u32, capacity: u64, cost: u64) -> (u64, u64) {
        if cost > capacity {
            return (NEVER, 0);
        }
        let used = self.view(now, span).used();
        let need = (used + cost).saturating_sub(capacity);
        if need == 0 {
            return (0, used);
        }
        let oldest = now.saturating_sub(u64::from(span));
        let mut ends: Vec<(u64, u64)> = self.units.range(oldest..).map(|(tick, units)| (*tick, *units)).collect();
        ends.extend(self.counting(now).filter(|loan| loan.last >= oldest).map(|loan| (loan.last, loan.units)));
        ends.sort_unstable();
        let mut gone = 0;
        for &(tick, units) in &ends {
            gone += units;
            if gone >= need {
                let all: u64 = ends.iter().filter(|(end, _)| *end <= tick).map(|(_, units)| units).sum();
                return (tick + u64::from(span) + 1, used - all);
            }
        }
        (NEVER, 0)
    }

    /// Decides one request.
    pub(super) fn ask(&mut self, now_ms: u64, ask: Ask, limits: &[Limit]) -> Outcome {
        self.end(now_ms);
        let now = self.load(now_ms);
        let outcome = self.decide(now, ask.cost, limits);
        self.store(now, now_ms);
        outcome
    }

    fn decide(&mut self, now: u64, cost: u64, limits: &[Limit]) -> Outcome {
        let (mut violated, mut fits_at, mut used, mut binding, mut is_tight) = (0_u8, 0, 0, 0, false);
        let mut used_then = 0;
        for (index, limit) in limits.iter().enumerate() {
            let here = self.view(now, limit.span).used();
            let free_after = |limit: &Limit, used: u64| u128::from(limit.capacity.saturating_sub(used + cost));
            if here + cost > limit.capacity {
                let (fits, then) = self.fits_at(now, limit.span, limit.capacity, cost);
                if fits > fits_at {
                    (fits_at, used_then, used, binding) = (fits, then, here, index);
                }
                violated |= 1 << index;
            } else if index == 0 {
                used = here;
            } else if violated == 0 {
                let other = &limits[binding];
                if free_after(limit, here) * u128::from(other.capacity)
                    < free_after(other, used) * u128::from(limit.capacity)
                {
                    (used, binding) = (here, index);
                }
            }
            is_tight |= here + 2 * cost > limit.capacity;
        }
        if violated == 0 && cost > 0 {
            self.charge(now, now, cost);
            let fits = |limit: &Limit| self.fits_at(now, limit.span, limit.capacity, cost).0;
            fits_at = if is_tight { limits.iter().map(fits).max().unwrap_or(0) } else { 0 };
        }
        let (verdict, used) = match violated {
            0 => (Verdict::Allowed, used + cost),
            _ => (Verdict::Rejected, used),
        };
        if violated == 0 {
            used_then = used;
        }
        Outcome { verdict, binding: binding as u8, violated, factor: 0.0, used, newest: self.open, fits_at, used_then }
    }

    /// Handles one call with its asks; it decides none of them if the key was lost.
    pub(super) fn sync(
        &mut self,
        now_ms: u64,
        request: &SyncRequest,
        asks: &[Ask],
        policy: Policy<'_>,
    ) -> (Vec<Outcome>, SyncReply) {
        self.end(now_ms);
        let now = self.load(now_ms);
        let is_lost = request.expected > 0 && self.epoch != request.expected;
        let mut outcomes = Vec::new();
        if !is_lost {
            self.report(now, now_ms, request, policy);
            outcomes.extend(asks.iter().map(|ask| self.decide(now, ask.cost, policy.limits)));
        }
        let mut reply = self.lend(now, now_ms, request, policy, is_lost);
        if self.is_changed && self.epoch == 0 {
            self.epoch = request.proposed;
        }
        reply.epoch = self.epoch;
        reply.ttl_ms = self.store(now, now_ms);
        (outcomes, reply)
    }

    fn report(&mut self, now: u64, now_ms: u64, request: &SyncRequest, policy: Policy<'_>) {
        let longest = policy.longest_life(self.bucket_ms);
        let decided_ms = if self.without == Without::OneClock { now_ms } else { now_ms.max(now * self.bucket_ms) };
        for report in &request.reports {
            let is_counting = |loan: &Loan| loan.id == report.id && now.saturating_sub(loan.last) <= self.kept;
            let place = self.loans.iter().position(is_counting);
            let (mut left, mut earliest) = (0, now.saturating_sub(self.kept));
            match (report.kind, place) {
                (ReportKind::Lease, Some(place)) => {
                    let loan = self.loans.remove(place);
                    self.is_changed = true;
                    (left, earliest) = (loan.units, loan.last.saturating_sub(longest));
                }
                (ReportKind::Extra, None) => {
                    left = 1 << 40;
                    if self.without != Without::Marks {
                        self.loans.push(Loan { id: report.id, last: now, units: 0, rate: 0.0 });
                    }
                    self.change();
                }
                _ => {}
            }
            for &(age, units) in &report.spent {
                let units = units.min(left);
                left -= units;
                let tick = decided_ms.saturating_sub(u64::from(age)) / self.bucket_ms;
                if units > 0 {
                    self.charge(now, tick.max(earliest).min(now), units);
                }
            }
        }
        self.fold(now, now.saturating_sub(4 * longest), usize::MAX);
    }

    /// Charges up to `most` leases that ended before a tick as spent; returns their number.
    fn fold(&mut self, now: u64, before: u64, most: usize) -> usize {
        let mut ended: Vec<(u64, u64)> = self
            .counting(now)
            .filter(|loan| loan.units > 0 && loan.last < before)
            .map(|loan| (loan.last, loan.units))
            .collect();
        ended.sort_by_key(|&(last, _)| last);
        ended.truncate(most);
        for &(last, units) in &ended {
            let place = self.loans.iter().position(|loan| (loan.last, loan.units) == (last, units));
            place.map(|place| self.loans.remove(place));
            self.charge(now, last, units);
        }
        ended.len()
    }

    fn lend(&mut self, now: u64, now_ms: u64, request: &SyncRequest, policy: Policy<'_>, is_lost: bool) -> SyncReply {
        let views: Vec<Lookback> = policy.limits.iter().map(|limit| self.view(now, limit.span)).collect();
        let frees: Vec<u64> =
            policy.limits.iter().zip(&views).map(|(limit, view)| limit.capacity.saturating_sub(view.used())).collect();
        let part_of = |index: usize| (u128::from(frees[index]), u128::from(policy.limits[index].capacity));
        let mut binding = 0;
        for index in 1..frees.len() {
            let ((free, capacity), (least, of)) = (part_of(index), part_of(binding));
            if free * of < least * capacity {
                binding = index;
            }
        }
        let mut free = frees.iter().copied().min().unwrap_or(0);
        let capacity = policy.limits[binding].capacity;
        let smallest = policy.limits.iter().map(|limit| limit.capacity).min().unwrap_or(0);
        let free_now = Free { free, free_of: frees[binding], capacity, smallest };
        let share = policy.share(self, (now, now_ms), request, free_now);
        let mut life_ms = share.horizon_ms + policy.spare_ms(self.bucket_ms);
        let twin = self.counting(now).find(|loan| loan.id == request.id).map(|loan| (loan.units, loan.last));
        let mut units = if is_lost || !request.wants || free < share.least { 0 } else { share.units };
        if let Some((lent, last)) = twin {
            units = lent;
            life_ms = life_ms.min((last * self.bucket_ms).saturating_sub(now_ms));
        } else {
            if units > 0 && share.count >= 512 && self.fold(now, now, 1) == 0 {
                units = 0;
            }
            if units > 0 {
                let last = ((now_ms + life_ms) / self.bucket_ms).max(now);
                self.loans.push(Loan { id: request.id, last, units, rate: f64::from(policy.rate(request) as f32) });
                free -= units;
                self.change();
            }
        }
        let (mut fits_at, mut used_then) = (0, 0);
        if free < share.least {
            for limit in policy.limits {
                let least = share.least.min(limit.capacity.max(1));
                let (fits, then) = self.fits_at(now, limit.span, limit.capacity, least);
                if fits > fits_at {
                    (fits_at, used_then) = (fits, then);
                }
            }
        }
        SyncReply {
            is_lost,
            binding: binding as u8,
            units,
            free,
            used: views[binding].used(),
            held: views[binding].lent,
            fits_at,
            used_then,
            life_ms: life_ms as u32,
            horizon_ms: share.horizon_ms as u32,
            ask_again_ms: share.ask_again_ms as u32,
            ratio: 1.0,
            epoch: 0,
            ttl_ms: 0,
        }
    }

    /// Replaces the admitted units by `count` units dated now; held units stay.
    pub(super) fn set(&mut self, now_ms: u64, span: u32, count: u64) -> (u64, u64) {
        self.end(now_ms);
        let now = self.load(now_ms);
        let before = self.view(now, span).used();
        let count = count.min(crate::quota::MAX_CAPACITY);
        self.open = now;
        if self.is_known || count > 0 {
            self.keep_loans(now);
            let lent = self.view(now, span).lent;
            self.units.clear();
            let left = count.saturating_sub(lent);
            if left > 0 {
                self.units.insert(now, left);
            }
            self.change();
        }
        let after = self.view(now, span).used();
        self.store(now, now_ms);
        (before, after)
    }

    /// Forgets the admitted units; held units stay.
    pub(super) fn delete(&mut self, now_ms: u64) {
        self.end(now_ms);
        let now = self.load(now_ms);
        if !self.is_known {
            return;
        }
        self.keep_loans(now);
        self.units.clear();
        if self.epoch == 0 {
            return self.lose();
        }
        self.open = now;
        self.change();
        self.store(now, now_ms);
    }

    fn keep_loans(&mut self, now: u64) {
        self.loans.retain(|loan| loan.last >= now || loan.units == 0);
    }
}

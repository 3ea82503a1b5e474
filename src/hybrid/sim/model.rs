//! What the script does on one key by the absolute strategy: units by their tick, and a list of leases.

use std::collections::BTreeMap;

use super::lend::Free;
use crate::decision::Verdict;
use crate::engine::{Limit, NEVER, Outcome};
use crate::redis::script::{Ask, LeaseId, Lending, Lent, Part};

/// Units that an instance holds.
#[derive(Clone, Debug)]
pub(super) struct Loan {
    pub(super) id: LeaseId,
    /// The last tick at which they may be spent.
    pub(super) last: u64,
    pub(super) units: u64,
    pub(super) rate: f64,
}

/// What the limits are, and how units are lent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy<'a> {
    pub(super) limits: &'a [Limit],
    pub(super) lending: Lending,
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) bucket_ms: u64,
    /// For how many ticks anything is kept.
    kept: u64,
    is_known: bool,
    /// The newest tick of a unit; of a key that is not known, now.
    open: u64,
    units: BTreeMap<u64, u64>,
    pub(super) loans: Vec<Loan>,
    pub(super) epoch: u32,
    ends_ms: u64,
    /// How often the key's life ended.
    pub(super) ended: u32,
    is_changed: bool,
}

/// What is held against one limit.
#[derive(Clone, Copy)]
struct View {
    live: u64,
    lent: u64,
}

impl View {
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
        }
    }

    /// Loses everything.
    pub(super) fn lose(&mut self) {
        *self = Self { ended: self.ended, ..Self::new(self.bucket_ms, self.kept as u32) };
    }

    /// Ends the key, if its life is over.
    pub(super) fn end(&mut self, now_ms: u64) {
        if now_ms >= self.ends_ms {
            self.lose();
            self.ended += 1;
        }
    }

    /// Begins a call; gives the tick at which it takes place.
    fn load(&mut self, now_ms: u64) -> u64 {
        let clock = now_ms / self.bucket_ms;
        self.is_changed = false;
        if !self.is_known {
            self.open = clock;
        }
        clock.max(self.open)
    }

    /// Ends a call; gives how long the key lives from then on, if it has changed.
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

    /// Adds units as of a tick that is not in the future.
    fn charge(&mut self, now: u64, tick: u64, units: u64) {
        if now - tick > self.kept {
            return;
        }
        *self.units.entry(tick).or_default() += units;
        self.open = self.open.max(tick);
        self.change();
    }

    /// Leases that count at all.
    pub(super) fn counting(&self, now: u64) -> impl Iterator<Item = &Loan> {
        self.loans.iter().filter(move |loan| now.saturating_sub(loan.last) <= self.kept)
    }

    fn view(&self, now: u64, span: u32) -> View {
        let oldest = now.saturating_sub(u64::from(span));
        let live = self.units.range(oldest..).map(|(_, units)| units).sum();
        let lent = self.counting(now).filter(|loan| loan.last >= oldest).map(|loan| loan.units).sum();
        View { live, lent }
    }

    /// The units that are held within a span.
    pub(super) fn used(&self, now_ms: u64, span: u32) -> u64 {
        if !self.is_known || now_ms >= self.ends_ms {
            return 0;
        }
        self.view((now_ms / self.bucket_ms).max(self.open), span).used()
    }

    /// The first tick at which a cost fits under a capacity.
    fn fits_at(&self, now: u64, span: u32, capacity: u64, cost: u64) -> u64 {
        if cost > capacity {
            return NEVER;
        }
        let need = (self.view(now, span).used() + cost).saturating_sub(capacity);
        if need == 0 {
            return 0;
        }
        let oldest = now.saturating_sub(u64::from(span));
        let mut ends: Vec<(u64, u64)> = self.units.range(oldest..).map(|(tick, units)| (*tick, *units)).collect();
        ends.extend(self.counting(now).filter(|loan| loan.last >= oldest).map(|loan| (loan.last, loan.units)));
        ends.sort_unstable();
        let mut gone = 0;
        for (tick, units) in ends {
            gone += units;
            if gone >= need {
                return tick + u64::from(span) + 1;
            }
        }
        NEVER
    }

    /// One request.
    pub(super) fn ask(&mut self, now_ms: u64, ask: Ask, limits: &[Limit]) -> Outcome {
        self.end(now_ms);
        let now = self.load(now_ms);
        let outcome = self.decide(now, ask.cost, limits);
        self.store(now, now_ms);
        outcome
    }

    fn decide(&mut self, now: u64, cost: u64, limits: &[Limit]) -> Outcome {
        let (mut violated, mut fits_at, mut used, mut binding, mut is_tight) = (0_u8, 0, 0, 0, false);
        for (index, limit) in limits.iter().enumerate() {
            let here = self.view(now, limit.span).used();
            let free_after = |limit: &Limit, used: u64| u128::from(limit.capacity.saturating_sub(used + cost));
            if here + cost > limit.capacity {
                let fits = self.fits_at(now, limit.span, limit.capacity, cost);
                if fits > fits_at {
                    (fits_at, used, binding) = (fits, here, index);
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
            let fits = |limit: &Limit| self.fits_at(now, limit.span, limit.capacity, cost);
            fits_at = if is_tight { limits.iter().map(fits).max().unwrap_or(0) } else { 0 };
        }
        let (verdict, used) = match violated {
            0 => (Verdict::Allowed, used + cost),
            _ => (Verdict::Rejected, used),
        };
        Outcome {
            verdict,
            binding: binding as u8,
            violated,
            factor: 0.0,
            used,
            newest: self.open,
            fits_at,
            used_then: used,
        }
    }

    /// One part, with its asks; none is answered where the key was lost.
    pub(super) fn settle(
        &mut self,
        now_ms: u64,
        part: &Part,
        asks: &[Ask],
        policy: Policy<'_>,
    ) -> (Vec<Outcome>, Lent) {
        self.end(now_ms);
        let now = self.load(now_ms);
        let is_lost = part.expected > 0 && self.epoch != part.expected;
        let mut outcomes = Vec::new();
        if !is_lost {
            self.report(now, now_ms, part, policy);
            outcomes.extend(asks.iter().map(|ask| self.decide(now, ask.cost, policy.limits)));
        }
        let mut lent = self.lend(now, now_ms, part, policy, is_lost);
        if self.is_changed && self.epoch == 0 {
            self.epoch = part.proposed;
        }
        lent.epoch = self.epoch;
        lent.lives_ms = self.store(now, now_ms);
        (outcomes, lent)
    }

    fn report(&mut self, now: u64, now_ms: u64, part: &Part, policy: Policy<'_>) {
        let longest = policy.longest_life(self.bucket_ms);
        for report in &part.reports {
            let place = self
                .loans
                .iter()
                .position(|loan| Some(loan.id) == report.id && now.saturating_sub(loan.last) <= self.kept);
            let (mut left, earliest) = match (report.id, place) {
                (_, Some(place)) => {
                    let loan = self.loans.remove(place);
                    self.is_changed = true;
                    (loan.units, loan.last.saturating_sub(longest))
                }
                (None, _) => (1 << 40, now.saturating_sub(self.kept)),
                _ => (0, 0),
            };
            for &(age, units) in &report.spent {
                let units = units.min(left);
                left -= units;
                let tick = now_ms.max(now * self.bucket_ms).saturating_sub(u64::from(age)) / self.bucket_ms;
                if units > 0 {
                    self.charge(now, tick.max(earliest).min(now), units);
                }
            }
        }
    }

    fn lend(&mut self, now: u64, now_ms: u64, part: &Part, policy: Policy<'_>, is_lost: bool) -> Lent {
        let views: Vec<View> = policy.limits.iter().map(|limit| self.view(now, limit.span)).collect();
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
        let share = policy.share(self, now, part, Free { free, free_of: frees[binding], capacity, smallest });
        let mut life_ms = share.horizon_ms + policy.spare_ms(self.bucket_ms);
        let twin = self.counting(now).find(|loan| loan.id == part.id).map(|loan| (loan.units, loan.last));
        if let Some((_, last)) = twin {
            life_ms = life_ms.min((last * self.bucket_ms).saturating_sub(now_ms));
        }
        let twin = twin.map(|(units, _)| units);
        let is_given = !is_lost && part.wants && self.counting(now).count() < 512 && free >= share.least;
        let units = twin.unwrap_or(if is_given { share.units } else { 0 });
        if twin.is_none() && units > 0 {
            let last = ((now_ms + life_ms) / self.bucket_ms).max(now);
            self.loans.push(Loan { id: part.id, last, units, rate: f64::from(policy.rate(part) as f32) });
            free -= units;
            self.change();
        }
        let fits =
            |limit: &Limit| self.fits_at(now, limit.span, limit.capacity, share.least.min(limit.capacity.max(1)));
        let fits_at = if free < share.least { policy.limits.iter().map(fits).max().unwrap_or(0) } else { 0 };
        Lent {
            is_lost,
            binding: binding as u8,
            units,
            free,
            used: views[binding].used(),
            fits_at,
            life_ms: life_ms as u32,
            horizon_ms: share.horizon_ms as u32,
            instances: share.instances,
            ratio: 1.0,
            epoch: 0,
            lives_ms: 0,
        }
    }

    /// Replaces what was admitted by so many units of now; what is held stays.
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

    /// Forgets what was admitted; what is held stays.
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
        self.loans.retain(|loan| loan.last >= now);
    }
}

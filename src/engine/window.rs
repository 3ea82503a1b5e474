//! The sliding window of one key.

use super::demand::ShedState;
use super::limit::{Limit, Retention};
use super::outcome::NEVER;
use super::ring::Ring;
use super::word::{Word, base_word, between, full_tick};
use crate::correction::HistoryPreservation;
use crate::quota::MAX_CAPACITY;
use crate::time::Ticks;

/// The sliding window of one key: 48 bytes, and a ring on the heap as soon as a third bucket is closed.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The open bucket: the low bits of its tick, and the running total of all units.
    open: Word,
    /// The high bits of the open tick, and the running total before the oldest closed bucket.
    base: Word,
    /// The closed buckets; ticks and running totals rise.
    closed: Ring,
}

/// The units that [`Window::set`] retains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetMode {
    /// No units: the new total is stamped `age` ticks ago.
    Replace { age: u32 },
    /// The newest units; missing units are stamped now.
    Newest,
    /// The oldest units; missing units are stamped as the oldest bucket.
    Oldest,
}

impl From<HistoryPreservation> for SetMode {
    fn from(which: HistoryPreservation) -> Self {
        match which {
            HistoryPreservation::PreserveNewest => Self::Newest,
            HistoryPreservation::PreserveOldest => Self::Oldest,
        }
    }
}

/// A look-back from one instant: the running total that has expired, and the first live closed bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookback {
    spent: u64,
    first: usize,
    pub(super) used: u64,
}

impl Window {
    /// An empty window.
    pub(crate) fn new(now: u64) -> Self {
        Self { open: Word::new(now, 0), base: base_word(now, 0), closed: Ring::default() }
    }

    /// The tick of the open bucket.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        full_tick(self.base, self.open)
    }

    /// The tick at which a decision takes place, which is never before the newest tick seen.
    #[inline]
    pub(super) fn clamp(&self, now: u64) -> u64 {
        now.max(self.tick())
    }

    /// Looks back `span` ticks from `now`, which is not before the open tick.
    #[inline]
    pub(super) fn look_back(&self, now: u64, span: u32) -> Lookback {
        let (open, total, span) = (self.tick(), self.open.cum(), u64::from(span));
        let idle = now - open;
        if idle > span {
            return Lookback { spent: total, first: self.closed.len(), used: 0 };
        }
        let (mut spent, mut first) = (self.base.cum(), 0);
        if self.closed.oldest_age(open).is_some_and(|age| idle + age > span) {
            first = self.closed.first_near(1, |word| idle + word.age(open) <= span);
            spent = self.closed.get(first - 1).map_or(spent, Word::cum);
        }
        Lookback { spent, first, used: between(spent, total) }
    }

    /// The units that are live at `now`.
    pub(crate) fn used(&self, now: u64, span: u32) -> u64 {
        self.look_back(self.clamp(now), span).used
    }

    /// The units that were certainly admitted within `window` ticks before the end of tick `now`.
    ///
    /// This is a lower bound, and [`used`](Self::used) is an upper bound. A merged bucket at the window's edge does not
    /// count.
    pub(super) fn min_used(&self, now: u64, window: u32) -> u64 {
        if now - self.tick() >= u64::from(window) {
            return 0;
        }
        let view = self.look_back(now, window - 1);
        match self.closed.get(view.first) {
            Some(word) if self.closed.is_merged(view.first) => between(word.cum(), self.open.cum()),
            _ => view.used,
        }
    }

    /// Returns the first tick at which `cost` fits under `capacity`, and the units held then. The tick is 0 if it fits
    /// now.
    pub(super) fn fits_at(&self, view: Lookback, limit: &Limit, capacity: u64, cost: u64) -> (u64, u64) {
        if cost > capacity {
            return (NEVER, 0);
        }
        // The number of oldest units that must expire first.
        let need = (view.used + cost).saturating_sub(capacity);
        if need == 0 {
            return (0, view.used);
        }
        let (open, frees) = (self.tick(), |word: Word| between(view.spent, word.cum()));
        let at = self.closed.first_where(view.first, |word| frees(word) >= need);
        let word = self.closed.get(at).unwrap_or(self.open);
        (open - word.age(open) + u64::from(limit.span) + 1, view.used - frees(word))
    }

    /// The first tick at which a unit that is live at `now` is not live any more; [`NEVER`] if no unit is live.
    pub(super) fn next_expiry(&self, now: u64, span: u32) -> u64 {
        let view = self.look_back(now, span);
        match view.used {
            0 => NEVER,
            _ => {
                let open = self.tick();
                open - self.closed.get(view.first).unwrap_or(self.open).age(open) + u64::from(span) + 1
            }
        }
    }

    /// Charges the open bucket if the same cost fits once more; returns the units in use.
    ///
    /// Returns `None` if the tick has changed, if units have expired, or if the limit looks back less far than the
    /// retained history.
    #[inline]
    pub(super) fn charge_open(&mut self, now: u64, cost: u64, limit: &Limit, horizon: &Retention) -> Option<u64> {
        let used = between(self.base.cum(), self.open.cum());
        let room = limit.capacity.checked_sub(used)?;
        let keep = horizon.keep();
        if now != self.tick() || limit.span != keep || cost > room / 2 || self.has_expired(now, keep) {
            return None;
        }
        self.open = self.open.with_cum(self.open.cum() + cost);
        Some(used + cost)
    }

    /// Charges a cost that fits even if no unit has expired since the last look into the history; returns an upper bound
    /// of the units in use.
    ///
    /// It closes the open bucket if necessary, but leaves expired buckets where they are. So a key outside the cache
    /// costs no load from the heap. Returns `None` if the cost is 0 or may not fit, if the ring is full, or if all buckets
    /// have expired: the request then needs [`absolute`](super::absolute()).
    #[inline]
    pub(crate) fn charge_unexpired(&mut self, now: u64, cost: u64, limit: &Limit, horizon: &Retention) -> Option<u64> {
        let (open, total) = (self.tick(), self.open.cum());
        let at_most = between(self.base.cum(), total);
        if cost == 0 || cost > limit.capacity.checked_sub(at_most)? {
            return None;
        }
        if now > open && !self.roll_unexpired(now, horizon) {
            return None;
        }
        self.open = self.open.with_cum(total + cost);
        Some(at_most + cost)
    }

    /// Whether a cost fits even if no unit has expired since the last look into the history.
    #[inline]
    pub(crate) fn fits_unexpired(&self, cost: u64, limit: &Limit) -> bool {
        let at_most = between(self.base.cum(), self.open.cum());
        limit.capacity.checked_sub(at_most).is_some_and(|room| cost <= room)
    }

    /// Moves the open bucket to a later tick, and leaves expired buckets where they are. Returns whether it did.
    fn roll_unexpired(&mut self, now: u64, horizon: &Retention) -> bool {
        let (open, total) = (self.tick(), self.open.cum());
        let idle = now - open;
        let oldest = idle + self.closed.oldest_age(open).unwrap_or(0);
        // The age of an older bucket would not fit its word.
        let can_stay = idle <= u64::from(horizon.keep()) && oldest <= Ticks::MAX_SPAN;
        let rolls = can_stay && self.closed.push_within(self.open);
        if rolls {
            (self.open, self.base) = (Word::new(now, total), base_word(now, self.base.cum()));
        }
        rolls
    }

    /// Whether the oldest closed bucket has expired for a span; `now` is not before the open tick.
    #[inline]
    fn has_expired(&self, now: u64, span: u32) -> bool {
        let open = self.tick();
        self.closed.oldest_age(open).is_some_and(|age| now - open + age > u64::from(span))
    }

    /// Adds `cost` units with the stamp `now`, which is not before the open tick.
    #[inline]
    pub(super) fn charge(&mut self, now: u64, cost: u64, horizon: &Retention) {
        self.roll(now, horizon);
        self.open = self.open.with_cum(self.open.cum() + cost);
    }

    /// Adds `cost` units that were admitted elsewhere, at `now`. It adds at most the largest capacity of any limit.
    pub(crate) fn record_external(&mut self, now: u64, cost: u64, horizon: &Retention) {
        let now = self.clamp(now);
        let room = MAX_CAPACITY.saturating_sub(self.used(now, horizon.keep()));
        self.charge(now, cost.min(room), horizon);
    }

    /// Returns the live units by bucket, oldest first, as the newest tick that they may have and their number. If the
    /// window has more than `most` buckets, it combines some under their newest tick.
    #[cfg(feature = "_redis")]
    pub(crate) fn buckets(&self, now: u64, horizon: &Retention, most: usize) -> Vec<(u64, u64)> {
        let (now, open) = (self.clamp(now), self.tick());
        let Lookback { mut spent, first, .. } = self.look_back(now, horizon.keep());
        let words = (first..self.closed.len()).filter_map(|at| self.closed.get(at)).chain([self.open]);
        let (count, each) = (self.closed.len() + 1 - first, (self.closed.len() + 1 - first).div_ceil(most.max(1)));
        let mut buckets = Vec::new();
        for (at, word) in words.enumerate() {
            if (at + 1) % each != 0 && at + 1 != count {
                continue;
            }
            let units = between(spent, word.cum());
            if units > 0 {
                buckets.push((open - word.age(open), units));
            }
            spent = word.cum();
        }
        buckets
    }

    /// Moves the open bucket to `now`: closes the old one, and drops the buckets that expired for the longest span.
    #[inline]
    fn roll(&mut self, now: u64, horizon: &Retention) {
        if now > self.tick() || self.has_expired(now, horizon.keep()) {
            self.roll_on(now, horizon);
        }
    }

    fn roll_on(&mut self, now: u64, horizon: &Retention) {
        let (open, total) = (self.tick(), self.open.cum());
        let Lookback { spent, first, used } = self.look_back(now, horizon.keep());
        self.closed.drop_oldest(first);
        if used > 0 && now > open {
            if self.closed.len() >= horizon.words() {
                self.coarsen(open, now - open, horizon);
            }
            self.closed.push(self.open);
        }
        self.open = Word::new(now, total);
        self.base = base_word(now, spent);
    }

    /// Merges buckets in one cell into the newest of them; see the [module docs](super).
    ///
    /// The age of the remaining bucket determines the cell. So a merged bucket has left every window that the remaining
    /// one has left. In a smaller window, it counts for at most one cell longer.
    #[cold]
    fn coarsen(&mut self, open: u64, idle: u64, horizon: &Retention) {
        let cells = horizon.cells();
        let (mut left, mut kept) = (self.closed.len(), self.closed.len());
        let mut stays: Option<(u64, u64)> = None;
        while let Some(word) = left.checked_sub(1).and_then(|at| self.closed.get(at)) {
            left -= 1;
            let (tick, age) = (open - word.age(open), idle + word.age(open));
            if stays.is_some_and(|(tick_of, cell)| tick / cell == tick_of / cell) {
                continue;
            }
            let cell = cells.clone().find(|&(span, _)| age <= span).map_or(1, |(_, cell)| cell);
            stays = Some((tick, cell));
            kept -= 1;
            self.closed.set(kept, word);
        }
        self.closed.drop_oldest(kept);
        self.closed.mark_merged();
    }

    /// Refunds up to `cost` units with the stamp `stamp`; returns their number.
    ///
    /// The refund is exact while that bucket is live, and has no effect afterwards. It never changes other buckets,
    /// because their units expire at other times.
    pub(crate) fn refund(&mut self, now: u64, stamp: u64, cost: u64, horizon: &Retention) -> u64 {
        let open = self.tick();
        if stamp > open || self.clamp(now) - stamp > u64::from(horizon.keep()) {
            return 0;
        }
        let at = self.closed.first_where(0, |word| open - word.age(open) >= stamp);
        let bucket = self.closed.get(at).unwrap_or(self.open);
        // A later bucket contains units of that stamp only if they were merged into it.
        if open - bucket.age(open) != stamp && !self.closed.is_merged(at) {
            return 0;
        }
        let before = at.checked_sub(1).and_then(|at| self.closed.get(at)).unwrap_or(self.base);
        let refunded = cost.min(between(before.cum(), bucket.cum()));
        for index in at..self.closed.len() {
            self.update(index, |cum| cum.wrapping_sub(refunded));
        }
        self.open = self.open.with_cum(self.open.cum().wrapping_sub(refunded));
        refunded
    }

    /// Moves up to `units` with the stamp `stamp` to `now`; returns their number and their new stamp.
    ///
    /// Units that have left the window cannot be moved, and stay outside.
    pub(crate) fn redate(&mut self, now: u64, stamp: u64, units: u64, horizon: &Retention) -> (u64, u64) {
        let now = self.clamp(now);
        let moved = self.refund(now, stamp, units, horizon);
        self.charge(now, moved, horizon);
        (moved, now)
    }

    /// Sets the number of live units within `span` to `count`, which is capped at 2^39.
    ///
    /// A lower total, or 0, also ends the shedding: units shed before no longer count.
    pub(crate) fn set(&mut self, now: u64, count: u64, mode: SetMode, span: u32, horizon: &Retention) {
        let (now, count) = (self.clamp(now), count.min(MAX_CAPACITY));
        self.roll(now, horizon);
        let Lookback { spent, first, used: live } = self.look_back(now, span);
        let total = self.open.cum();
        if count < live || count == 0 {
            self.closed.end_shedding();
        }
        match mode {
            SetMode::Replace { age } => {
                let stamp = now.saturating_sub(u64::from(age));
                self.closed.clear();
                (self.open, self.base) = (Word::new(stamp, total + count), base_word(stamp, total));
            }
            SetMode::Newest if count >= live => self.open = self.open.with_cum(total + (count - live)),
            SetMode::Newest => {
                let gone = live - count;
                let kept = self.closed.first_where(first, |word| between(spent, word.cum()) > gone);
                self.closed.drop_oldest(kept);
                self.base = base_word(now, spent.wrapping_add(gone));
            }
            SetMode::Oldest => {
                for index in first..self.closed.len() {
                    self.update(index, |cum| {
                        let held = between(spent, cum);
                        // An emptied bucket must not receive new units, because they would expire with it.
                        let added = if held > 0 { count.saturating_sub(live) } else { 0 };
                        spent.wrapping_add((held + added).min(count))
                    });
                }
                self.open = self.open.with_cum(spent.wrapping_add(count));
            }
        }
    }

    fn update(&mut self, index: usize, cum: impl FnOnce(u64) -> u64) {
        if let Some(word) = self.closed.get(index) {
            self.closed.set(index, word.with_cum(cum(word.cum())));
        }
    }

    /// Whether the window holds no unit, live or not.
    pub(crate) fn is_free(&self) -> bool {
        self.base.cum() == self.open.cum()
    }

    /// The tick of a decision on permits, which do not expire: that of the window while it holds any.
    pub(crate) fn held_at(&self, now: u64) -> u64 {
        if self.is_free() { self.clamp(now) } else { self.tick() }
    }

    /// Returns permits, whenever they were charged.
    #[cfg(feature = "_redis")]
    pub(crate) fn release(&mut self, permits: u64) {
        let held = between(self.base.cum(), self.open.cum());
        self.open = self.open.with_cum(self.open.cum().wrapping_sub(permits.min(held)));
    }

    /// Whether no unit is live at `now` for the longest span.
    pub(crate) fn is_empty(&self, now: u64, horizon: &Retention) -> bool {
        self.used(now, horizon.keep()) == 0
    }

    /// Whether all units ever charged have expired for the longest span.
    pub(crate) fn is_idle(&self, now: u64, horizon: &Retention) -> bool {
        now.saturating_sub(self.tick()) > u64::from(horizon.keep())
    }

    /// Drops the buckets that had expired for the longest span at the last charge. The open bucket stays, because its
    /// tick says how long the key has been idle.
    pub(crate) fn drop_expired(&mut self, horizon: &Retention) {
        self.roll(self.tick(), horizon);
    }

    /// Frees memory from a busier time.
    pub(crate) fn trim(&mut self, now: u64) {
        self.closed.shrink();
        if self.shed().is_some_and(|shed| shed.is_over(now)) {
            self.closed.end_shedding();
        }
    }

    /// Returns a window with the same units and stamps.
    pub(crate) fn copied(&self) -> Self {
        let mut copied = self.clone();
        copied.closed.end_shedding();
        copied
    }

    #[inline]
    pub(super) fn shed(&self) -> Option<&ShedState> {
        self.closed.shed()
    }

    #[inline]
    pub(super) fn shed_mut(&mut self) -> Option<&mut ShedState> {
        self.closed.shed_mut()
    }

    /// Makes sure that there is a state of shedding.
    pub(super) fn start_shedding(&mut self) {
        self.closed.start_shedding();
    }

    /// Follows a server's clock as the script does, and returns the tick of the decision. After a step back by more
    /// than the shortest span, it moves the history so that its newest unit is dated now.
    ///
    /// This is only a model of the script. In this process, threads read the clock before they lock the key, so an
    /// earlier reading does not mean that the clock stepped back.
    #[cfg(all(test, feature = "_redis"))]
    pub(crate) fn follow(&mut self, now: u64, horizon: &Retention) -> u64 {
        let back = self.tick().saturating_sub(now);
        if back > u64::from(horizon.spans().0[0]) {
            for index in 0..self.closed.len() {
                if let Some(word) = self.closed.get(index) {
                    self.closed.set(index, Word::new(word.tick().wrapping_sub(back), word.cum()));
                }
            }
            (self.open, self.base) = (Word::new(now, self.open.cum()), base_word(now, self.base.cum()));
        }
        self.clamp(now)
    }

    /// The number of closed buckets.
    #[cfg(test)]
    pub(super) fn words(&self) -> usize {
        self.closed.len()
    }

    /// The open tick, the total, the base, and every closed bucket as its full tick and its running total.
    #[cfg(test)]
    pub(super) fn dump(&self) -> (u64, u64, u64, Vec<(u64, u64)>) {
        let open = self.tick();
        let words = self.closed.iter().map(|word| (open - word.age(open), word.cum()));
        (open, self.open.cum(), self.base.cum(), words.collect())
    }
}

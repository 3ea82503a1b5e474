//! One key's window.

use super::limit::{Horizon, Limit};
use super::log::{Log, Word, base_word, between, full_tick};
use super::outcome::NEVER;
use super::suppressed::Shed;
use crate::quota::MAX_CAPACITY;

/// One key's sliding window: 24 bytes, and a log on the heap once a second bucket is live.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The open bucket: the low bits of its tick, and the running total of all units.
    open: Word,
    /// The high bits of the open tick, and the running total before the oldest word of the log.
    base: Word,
    log: Option<Box<Log>>,
}

/// Which units [`Window::set`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetMode {
    /// None: the new total is stamped now.
    Replace,
    /// The newest ones; what is missing is stamped now.
    Newest,
    /// The oldest ones; what is missing is stamped as the oldest bucket.
    Oldest,
}

/// A look back from one instant: the running total that has expired, and the first live word.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    spent: u64,
    first: usize,
    pub(super) used: u64,
}

impl Window {
    /// An empty window.
    pub(crate) fn new(now: u64) -> Self {
        Self { open: Word::new(now, 0), base: base_word(now, 0), log: None }
    }

    /// The tick of the open bucket.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        full_tick(self.base, self.open)
    }

    /// The tick at which a decision takes place: never before the newest one seen.
    #[inline]
    pub(super) fn clamp(&self, now: u64) -> u64 {
        now.max(self.tick())
    }

    /// Looks back `span` ticks from `now`, which is not before the open tick.
    #[inline]
    pub(super) fn view(&self, now: u64, span: u32, horizon: &Horizon) -> View {
        let (open, total) = (self.tick(), self.open.cum());
        let (idle, words) = (now - open, self.log.as_ref().map_or(0, |log| log.words.len()));
        if idle > u64::from(span) {
            return View { spent: total, first: words, used: 0 };
        }
        let mut view = View { spent: self.base.cum(), first: 0, used: 0 };
        // A window rolled to this very tick by the longest span has nothing expired in its log.
        if let Some(log) = self.log.as_ref().filter(|_| idle > 0 || span != horizon.keep()) {
            view.first = log.first_live(open, idle, u64::from(span));
            if let Some(expired) = view.first.checked_sub(1).and_then(|at| log.words.get(at)) {
                view.spent = expired.cum();
            }
        }
        view.used = between(view.spent, total);
        view
    }

    /// Units that are live at `now`.
    pub(crate) fn used(&self, now: u64, span: u32, horizon: &Horizon) -> u64 {
        self.view(self.clamp(now), span, horizon).used
    }

    /// Units that were certainly admitted within `window` ticks before the end of tick `now`.
    ///
    /// A lower bound, where [`used`](Self::used) is an upper one: a merged word counts only where its
    /// predecessor lies in the window too.
    pub(super) fn certain(&self, now: u64, window: u32, horizon: &Horizon) -> u64 {
        let (open, total, window) = (self.tick(), self.open.cum(), u64::from(window));
        let idle = now - open;
        if idle >= window {
            return 0;
        }
        let Some(log) = &self.log else { return between(self.base.cum(), total) };
        let view = self.view(now, u32::try_from(window - 1).unwrap_or(u32::MAX), horizon);
        match log.words.get(view.first) {
            Some(word) if open - word.age(open) <= log.merged_until => between(word.cum(), total),
            _ => view.used,
        }
    }

    /// The first tick at which `cost` fits under `capacity`, and the units free then; 0 where it fits now.
    pub(super) fn fits_at(&self, view: View, limit: &Limit, capacity: u64, cost: u64) -> (u64, u64) {
        if cost > capacity {
            return (NEVER, 0);
        }
        // How many of the oldest units must expire first.
        let Some(need) = (view.used + cost).checked_sub(capacity).filter(|&need| need > 0) else {
            return (0, capacity - view.used);
        };
        let (open, frees) = (self.tick(), |word: &Word| between(view.spent, word.cum()));
        let mut word = self.open;
        if let Some(log) = &self.log {
            let (mut low, mut high) = (view.first, log.words.len());
            // Nearly always the first live word frees enough.
            if log.words.get(low).is_some_and(|first| frees(first) >= need) {
                high = low;
            }
            while low < high {
                let middle = low + (high - low) / 2;
                if frees(&log.words[middle]) >= need { high = middle } else { low = middle + 1 }
            }
            word = log.words.get(low).copied().unwrap_or(word);
        }
        let at = open - word.age(open) + u64::from(limit.span) + 1;
        (at, capacity.saturating_sub(view.used - frees(&word)))
    }

    /// The first tick at which nothing is held any more.
    pub(super) fn empty_at(&self, view: View, limit: &Limit) -> u64 {
        if view.used == 0 { 0 } else { self.tick() + u64::from(limit.span) + 1 }
    }

    /// Adds `cost` units, stamped `now`, which is not before the open tick.
    #[inline]
    pub(super) fn charge(&mut self, now: u64, cost: u64, horizon: &Horizon) {
        self.roll(now, horizon);
        self.open = self.open.with_cum(self.open.cum() + cost);
    }

    /// Moves the open bucket to `now`: closes the old one and drops what has expired for the longest span.
    #[inline]
    fn roll(&mut self, now: u64, horizon: &Horizon) {
        if now > self.tick() {
            self.roll_on(now, horizon);
        }
    }

    fn roll_on(&mut self, now: u64, horizon: &Horizon) {
        let (open, total, keep) = (self.tick(), self.open.cum(), u64::from(horizon.keep()));
        let mut spent = self.base.cum();
        let idle = now - open;
        if idle > keep {
            spent = total;
            if let Some(log) = &mut self.log {
                log.words.clear();
            }
        } else {
            if let Some(log) = &mut self.log {
                while let Some(front) = log.words.front().filter(|front| idle + front.age(open) > keep) {
                    spent = front.cum();
                    log.words.pop_front();
                }
            }
            let closed = self.log.as_ref().and_then(|log| log.words.back()).map_or(spent, |word| word.cum());
            if total != closed {
                self.log.get_or_insert_default().push(self.open, open, idle, horizon);
            }
        }
        self.open = Word::new(now, total);
        self.base = base_word(now, spent);
    }

    /// Takes back up to `cost` units that were stamped `stamp`; returns how many.
    ///
    /// Exact while that bucket is live, and nothing after: the units of other buckets are never touched, for
    /// they expire at other times.
    pub(crate) fn refund(&mut self, now: u64, stamp: u64, cost: u64, horizon: &Horizon) -> u64 {
        let open = self.tick();
        let now = self.clamp(now);
        if stamp > open || now - stamp > u64::from(horizon.keep()) {
            return 0;
        }
        let (mut before, mut bucket, mut merged_until) = (self.base.cum(), self.open, 0);
        let mut words: &mut [Word] = &mut [];
        if let Some(log) = &mut self.log {
            let at = log.words.partition_point(|word| open - word.age(open) < stamp);
            if let Some(earlier) = at.checked_sub(1).and_then(|at| log.words.get(at)) {
                before = earlier.cum();
            }
            merged_until = log.merged_until;
            words = &mut log.words.make_contiguous()[at..];
            bucket = words.first().copied().unwrap_or(bucket);
        }
        // A later bucket holds units of that stamp only if they were merged into it.
        let tick = open - bucket.age(open);
        if tick != stamp && tick > merged_until {
            return 0;
        }
        let refunded = cost.min(between(before, bucket.cum()));
        for word in words {
            *word = word.with_cum(word.cum().wrapping_sub(refunded));
        }
        self.open = self.open.with_cum(self.open.cum().wrapping_sub(refunded));
        refunded
    }

    /// Makes the units that are live within `span` exactly `count`, which is capped at 2^39.
    pub(crate) fn set(&mut self, now: u64, count: u64, mode: SetMode, span: u32, horizon: &Horizon) {
        let (now, count) = (self.clamp(now), count.min(MAX_CAPACITY));
        let live = self.view(now, span, horizon).used;
        self.roll(now, horizon);
        let View { spent, first, .. } = self.view(now, span, horizon);
        let total = self.open.cum();
        let log = self.log.as_deref_mut().map(|log| &mut log.words);
        match mode {
            SetMode::Replace => {
                log.into_iter().for_each(|words| words.clear());
                self.base = base_word(now, total);
                self.open = self.open.with_cum(total + count);
            }
            SetMode::Newest if count >= live => self.open = self.open.with_cum(total + (count - live)),
            SetMode::Newest => {
                let gone = spent.wrapping_add(live - count);
                if let Some(words) = log {
                    let dropped =
                        words.iter().skip(first).take_while(|word| between(spent, word.cum()) <= live - count);
                    words.drain(..first + dropped.count());
                }
                self.base = base_word(now, gone);
            }
            SetMode::Oldest => {
                for word in log.into_iter().flat_map(|words| words.iter_mut().skip(first)) {
                    let held = between(spent, word.cum());
                    // An emptied bucket is no place for new units: they would expire with it.
                    let added = if held > 0 { count.saturating_sub(live) } else { 0 };
                    let held = (held + added).min(count);
                    *word = word.with_cum(spent.wrapping_add(held));
                }
                self.open = self.open.with_cum(spent.wrapping_add(count));
            }
        }
    }

    /// Whether everything that was ever charged has expired for the longest span.
    pub(crate) fn is_idle(&self, now: u64, horizon: &Horizon) -> bool {
        now.saturating_sub(self.tick()) > u64::from(horizon.keep())
    }

    /// The running total of all units ever charged, modulo 2^40.
    pub(crate) fn total(&self) -> u64 {
        self.open.cum()
    }

    /// A window that holds what this one does, in one bucket with the newest stamp.
    pub(crate) fn collapsed(&self) -> Self {
        Self { open: self.open, base: self.base, log: None }
    }

    pub(super) fn shed(&self) -> Option<&Shed> {
        self.log.as_ref()?.shed.as_deref()
    }

    pub(super) fn shed_mut(&mut self) -> Option<&mut Shed> {
        self.log.as_mut()?.shed.as_deref_mut()
    }

    pub(super) fn start_shedding(&mut self) -> &mut Shed {
        self.log.get_or_insert_default().shed.get_or_insert_default()
    }

    /// The number of closed buckets in the log.
    #[cfg(test)]
    pub(super) fn words(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.words.len())
    }

    /// Every closed bucket as its full tick and its running total, oldest first.
    #[cfg(test)]
    pub(super) fn dump(&self) -> (u64, u64, u64, Vec<(u64, u64)>) {
        let open = self.tick();
        let words = self.log.iter().flat_map(|log| &log.words).map(|word| (open - word.age(open), word.cum()));
        (open, self.open.cum(), self.base.cum(), words.collect())
    }
}

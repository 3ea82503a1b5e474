//! The windows of one limit's keys: lookup, the bound on keys, and the overflow beyond it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cleanup;
use super::fingerprint::Fingerprint;
use super::overflow::Overflow;
use super::registry::Kept;
use super::sharded_map::{Entry, KEYS_PER_SHARD, ShardedMap, Slot};
use super::standing_refusal::{Question, Refused};
use crate::engine::{self, Limit, Outcome, Retention, Window};
use crate::telemetry::TableWatch;

/// The words of history per span, in a window that new keys share.
///
/// Each key that gets its own window takes a copy of them, so they must stay small: a flood of keys makes a million
/// copies. Beyond this number of words, a shared unit is held for up to a sixth of the window longer.
const SHARED_WORDS_PER_SPAN: usize = 16;

/// A table of windows, at most `max_keys` of them.
pub(crate) struct WindowTable {
    /// The place in the order in which a decision on several tables locks them.
    rank: u64,
    map: ShardedMap<Window>,
    horizon: Retention,
    /// The same spans with fewer words, for the shared windows.
    shared_horizon: Retention,
    /// The tick of the last sweep step that a full table requested.
    forced: AtomicU64,
    /// The windows that new keys share while the table is full of live keys.
    overflow: Overflow,
    /// Whether units are permits: each counts until it is refunded, however long that takes. Time then stands still for
    /// a key while it holds any, so no permit expires or merges.
    ///
    /// All permits of a key are in one place. A key that has permits in a shared window gets no window of its own.
    holds_permits: bool,
}

/// A decision on a known key.
pub(crate) enum Brief {
    /// An admission; at most so many units are in use.
    Charged {
        used: u64,
    },
    /// A refusal that was published before.
    Refused(Refused),
    Decided(Outcome),
}

/// The window that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Own,
    Shared,
}

impl WindowTable {
    /// A decision on several tables draws by the suppressed strategy last, so that its demand is what the others admit.
    pub(crate) fn new(max_keys: usize, is_suppressed: bool, watch: TableWatch) -> Self {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        Self {
            rank: u64::from(is_suppressed) << 63 | TABLES.fetch_add(1, Ordering::Relaxed),
            map: ShardedMap::new(max_keys, watch),
            horizon: Retention::new(Retention::WORDS_PER_SPAN),
            shared_horizon: Retention::new(SHARED_WORDS_PER_SPAN),
            forced: AtomicU64::new(0),
            overflow: Overflow::new(),
            holds_permits: false,
        }
    }

    /// A table whose units are permits.
    pub(crate) fn of_permits(max_keys: usize, watch: TableWatch) -> Self {
        Self { holds_permits: true, ..Self::new(max_keys, false, watch) }
    }

    #[inline]
    pub(crate) fn holds_permits(&self) -> bool {
        self.holds_permits
    }

    /// The tick of a decision on a window.
    #[inline]
    pub(crate) fn at(&self, window: &Window, now: u64) -> u64 {
        if self.holds_permits { window.held_at(now) } else { now }
    }

    /// Whether a window holds nothing that may still count.
    fn is_idle(&self, window: &Window, now: u64) -> bool {
        if self.holds_permits { window.is_free() } else { window.is_idle(now, &self.horizon) }
    }

    pub(crate) fn rank(&self) -> u64 {
        self.rank
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The longest span for which the table keeps history.
    pub(crate) fn longest_span(&self) -> u32 {
        self.horizon.keep()
    }

    #[inline]
    pub(crate) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.map.fingerprint(key)
    }

    /// Decides on a known key by the absolute strategy, and charges it; computes no figures of an admission that needs
    /// no look into the history. Returns `None` for an unknown key.
    #[inline]
    pub(crate) fn absolute_briefly(&self, print: Fingerprint, now: u64, cost: u64, limit: &Limit) -> Option<Brief> {
        self.absolute_known(print, now, cost, &[*limit], |window| {
            window.charge_unexpired(now, cost, limit, &self.horizon)
        })
    }

    /// Decides on a key by the absolute strategy, and charges it.
    #[inline]
    pub(crate) fn absolute(&self, print: Fingerprint, now: u64, cost: u64, limits: &[Limit]) -> (Outcome, Place) {
        match self.absolute_known(print, now, cost, limits, |_| None) {
            Some(Brief::Decided(outcome)) => (outcome, Place::Own),
            Some(Brief::Refused(refused)) => (refused.outcome(), Place::Own),
            Some(Brief::Charged { used }) => (Outcome::allowed(0, used, now), Place::Own),
            None => self.absolute_new(print, now, cost, limits),
        }
    }

    /// Decides on a known key; `charge` is asked first, and returns the units in use if it charged the request.
    #[inline]
    fn absolute_known(
        &self,
        print: Fingerprint,
        now: u64,
        cost: u64,
        limits: &[Limit],
        charge: impl FnOnce(&mut Window) -> Option<u64>,
    ) -> Option<Brief> {
        let shard = self.map.shard(print)?;
        let question = Question::new(print, limits, cost);
        if let Some(refusal) = shard.refusal().find(question, now) {
            return Some(Brief::Refused(refusal));
        }
        let mut locked = shard.lock();
        let was_refused = locked.is_refused(print);
        let window = locked.get_mut(print)?;
        if let Some(used) = charge(window) {
            return Some(Brief::Charged { used });
        }
        let outcome = engine::absolute(window, now, cost, limits, &self.horizon, true);
        if !outcome.is_allowed() {
            let stands = was_refused.then(|| engine::stands(window, now, limits));
            locked.refuse(print, question, &outcome, stands);
        }
        Some(Brief::Decided(outcome))
    }

    /// Decides on a key that probably has no window.
    #[inline(never)]
    pub(super) fn absolute_new(&self, print: Fingerprint, now: u64, cost: u64, limits: &[Limit]) -> (Outcome, Place) {
        let decide =
            |window: &mut Window, horizon: &Retention| engine::absolute(window, now, cost, limits, horizon, true);
        self.with_new(print, now, decide, |outcome| outcome.is_allowed() && cost > 0)
    }

    /// Decides on a known key by the suppressed strategy, and charges it. Returns `None` for an unknown key, and
    /// `Some(None)` for an admission below the limit. Only the verdict and the factor of an outcome count.
    #[inline]
    pub(crate) fn suppressed_briefly(
        &self,
        print: Fingerprint,
        now: u64,
        cost: u64,
        limit: &Limit,
    ) -> Option<Option<Outcome>> {
        self.map.known(print, |window| match engine::charge_unshed(window, now, cost, limit, &self.horizon) {
            Some(_) => None,
            None => {
                let random = fastrand::u32(..);
                Some(engine::suppressed_briefly(window, now, cost, &[*limit], &self.horizon, random))
            }
        })
    }

    /// Decides on a key by the suppressed strategy, and charges it.
    #[inline]
    pub(crate) fn suppressed(&self, print: Fingerprint, now: u64, cost: u64, limits: &[Limit]) -> (Outcome, Place) {
        let random = fastrand::u32(..);
        let decide =
            |window: &mut Window, horizon: &Retention| engine::suppressed(window, now, cost, limits, horizon, random);
        self.with(print, now, decide, |outcome| outcome.is_allowed() && cost > 0)
    }

    /// Decides on permits of a key. No refusal is published, because each release ends it.
    pub(crate) fn permit(&self, print: Fingerprint, now: u64, cost: u64, limits: &[Limit]) -> (Outcome, Place) {
        let decide = |window: &mut Window, horizon: &Retention| {
            engine::absolute(window, self.at(window, now), cost, limits, horizon, true)
        };
        self.with(print, now, decide, |outcome| outcome.is_allowed() && cost > 0)
    }

    /// Runs a decision on a key's window under its lock; an unknown key is inserted if `keep` returns true.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> (R, Place) {
        match self.map.known(print, |window| decide(window, &self.horizon)) {
            Some(result) => (result, Place::Own),
            None => self.with_new(print, now, decide, keep),
        }
    }

    /// Like [`with`](Self::with), for a caller that holds locks of other tables. It also returns whether the caller must
    /// [`sweep_turn`](Self::sweep_turn) when it holds none.
    pub(super) fn visit<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> (R, Place, bool) {
        match self.map.known(print, |window| decide(window, &self.horizon)) {
            Some(result) => (result, Place::Own, false),
            None => self.visit_new(print, now, decide, keep),
        }
    }

    /// Sweeps a part of the table, which new keys pay for. The caller holds no lock.
    pub(super) fn sweep_turn(&self, now: u64) {
        cleanup::follow_fork();
        self.map.sweep_turn(|window| self.keeps(window, now));
    }

    /// Runs a correction on a key's own window. An unknown key starts empty, whatever others have used.
    ///
    /// `keep` receives the result, and whether a key without a window may be charged for other keys. Returns `None` if
    /// the key is unknown and the table is full.
    pub(crate) fn correct<R>(
        &self,
        key: &[u8],
        now: u64,
        correct: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R, bool) -> bool,
    ) -> Option<R> {
        let print = self.map.fingerprint(key);
        if !self.reserve(now) {
            return self.map.known(print, |window| correct(window, &self.horizon));
        }
        let entered = self.overflow.hold(print, |shared| {
            let is_shared = shared.is_some_and(|shared| !self.is_idle(shared, now));
            self.enter(print, Window::new(now), correct, |result| keep(result, is_shared))
        });
        let (result, is_sweep_due) = self.count(entered);
        if is_sweep_due {
            self.sweep_turn(now);
        }
        Some(result)
    }

    /// Calls `look` with a key's own window; an unknown key has an empty one.
    pub(crate) fn peek_own<R>(&self, key: &[u8], now: u64, look: impl Fn(&Window) -> R) -> R {
        let known = self.map.known(self.map.fingerprint(key), |window| look(window));
        known.unwrap_or_else(|| look(&Window::new(now)))
    }

    /// Calls `look` with the window that would decide on a key, without inserting the key.
    pub(crate) fn peek<R>(&self, key: &[u8], now: u64, look: impl Fn(&mut Window, &Retention) -> R) -> R {
        self.glance(self.map.fingerprint(key), now, look)
    }

    /// Does the same with the key's fingerprint.
    pub(super) fn glance<R>(&self, print: Fingerprint, now: u64, look: impl Fn(&mut Window, &Retention) -> R) -> R {
        if let Some(seen) = self.map.known(print, |window| look(window, &self.horizon)) {
            return seen;
        }
        self.overflow.hold(print, |shared| look(&mut self.fresh(shared, now), &self.horizon))
    }

    /// Changes a key's window if the key is known, otherwise the window that it may have shared. Returns `None` if there
    /// is neither.
    pub(crate) fn settle<R>(&self, print: Fingerprint, settle: impl Fn(&mut Window, &Retention) -> R) -> Option<R> {
        self.overflow.hold(print, |shared| {
            let known = self.map.known(print, |window| settle(window, &self.horizon));
            known.or_else(|| shared.map(|shared| settle(shared, &self.shared_horizon)))
        })
    }

    /// Returns the initial window of an unknown key. It is empty, or contains all units of its shared window, because
    /// this key may have used them.
    fn fresh(&self, shared: Option<&mut Window>, now: u64) -> Window {
        match shared {
            Some(shared) if !self.is_idle(shared, now) => shared.copied(),
            _ => Window::new(now),
        }
    }

    /// Like [`with`](Self::with), for a key that probably has no window.
    #[cold]
    fn with_new<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> (R, Place) {
        let (result, place, is_sweep_due) = self.visit_new(print, now, decide, keep);
        if is_sweep_due {
            self.sweep_turn(now);
        }
        (result, place)
    }

    /// Like [`visit`](Self::visit), for a key that probably has no window.
    fn visit_new<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> (R, Place, bool) {
        if !self.reserve(now) {
            let (result, place) = self.with_overflow(print, now, decide);
            return (result, place, false);
        }
        let ((result, is_new), place) = self.overflow.hold(print, |shared| match shared {
            Some(shared) if self.holds_permits && !shared.is_free() => {
                let (result, place) = self.own_or_shared(print, shared, decide);
                ((result, false), place)
            }
            shared => (self.enter(print, self.fresh(shared, now), decide, keep), Place::Own),
        });
        let (result, is_sweep_due) = self.count((result, is_new));
        (result, place, is_sweep_due)
    }

    /// Runs a decision on a key's window, or on a fresh one. Returns the result, and whether to keep the fresh one.
    fn enter<R>(
        &self,
        print: Fingerprint,
        mut fresh: Window,
        decide: impl Fn(&mut Window, &Retention) -> R,
        keep: impl FnOnce(&R) -> bool,
    ) -> (R, bool) {
        match self.map.new_shard(print).lock().entry(print) {
            Entry::Occupied(mut slot) => (decide(&mut slot.get_mut().value, &self.horizon), false),
            Entry::Vacant(place) => {
                let result = decide(&mut fresh, &self.horizon);
                let keeps = keep(&result);
                if keeps {
                    place.insert(Slot::new(print, fresh));
                }
                (result, keeps)
            }
        }
    }

    /// Releases space that was not needed; otherwise, returns whether the new key must pay for a turn of the sweep.
    fn count<R>(&self, (result, is_new): (R, bool)) -> (R, bool) {
        match is_new {
            true => self.map.watch().key_added(),
            false => self.map.release(),
        }
        (result, is_new && self.map.is_sweep_due())
    }

    /// Runs a decision on a key's window if it has one by now, otherwise on its shared window.
    fn with_overflow<R>(
        &self,
        print: Fingerprint,
        now: u64,
        decide: impl Fn(&mut Window, &Retention) -> R,
    ) -> (R, Place) {
        let watch = self.map.watch();
        self.overflow.charge(print, now, watch, |shared| self.own_or_shared(print, shared, decide))
    }

    /// Runs a decision while the caller holds the key's shared window.
    fn own_or_shared<R>(
        &self,
        print: Fingerprint,
        shared: &mut Window,
        decide: impl Fn(&mut Window, &Retention) -> R,
    ) -> (R, Place) {
        match self.map.known(print, |window| decide(window, &self.horizon)) {
            Some(result) => (result, Place::Own),
            None => {
                self.map.watch().overflowed();
                (decide(shared, &self.shared_horizon), Place::Shared)
            }
        }
    }

    /// Returns permits that were charged in a place.
    pub(crate) fn release(&self, key: &[u8], place: Place, release: impl Fn(&mut Window, &Retention)) {
        let print = self.map.fingerprint(key);
        match place {
            Place::Own => drop(self.map.known(print, |window| release(window, &self.horizon))),
            Place::Shared => self.overflow.hold(print, |shared| {
                shared.into_iter().for_each(|shared| release(shared, &self.shared_horizon));
            }),
        }
    }

    /// Reserves space for a new key. A full table first searches for idle keys. It does so once per tick, and as often
    /// as new keys would pay for, among about as many keys as one step visits.
    fn reserve(&self, now: u64) -> bool {
        if self.map.try_reserve() {
            return true;
        }
        let is_first = self.forced.load(Ordering::Relaxed) < now && self.forced.fetch_max(now, Ordering::Relaxed) < now;
        if !is_first && !self.map.is_sweep_due() {
            return false;
        }
        let mut visited = 0;
        for _ in 0..self.map.steps() {
            visited += self.sweep_step(now);
            if self.map.try_reserve() {
                return true;
            }
            if visited >= KEYS_PER_SHARD / 4 {
                break;
            }
        }
        false
    }

    /// Removes a key; returns the result of `look` on its window.
    pub(crate) fn remove<R>(&self, key: &[u8], look: impl FnOnce(&Window) -> R) -> Option<R> {
        self.map.remove(self.map.fingerprint(key)).as_ref().map(look)
    }

    /// Removes a key that holds no unit, unless it would then share a window that others have charged.
    pub(crate) fn forget_empty(&self, key: &[u8], now: u64) {
        let print = self.map.fingerprint(key);
        self.overflow.hold(print, |shared| {
            if shared.is_none_or(|shared| self.is_idle(shared, now)) {
                self.map.remove_if(print, |window| window.is_empty(self.at(window, now), &self.horizon));
            }
        });
    }

    pub(crate) fn clear(&self) {
        self.overflow.clear(self.map.watch());
        self.map.sweep_all(|_| false);
    }

    /// The number of keys in the fullest shard, which bounds a step of the sweep.
    #[cfg(test)]
    pub(crate) fn fullest_shard(&self) -> usize {
        self.map.fullest()
    }

    /// Sweeps one of `parts` parts of a pass.
    pub(crate) fn sweep_part(&self, now: u64, parts: usize) {
        if self.len() > 0 {
            for _ in 0..self.map.steps().div_ceil(parts) {
                self.sweep_step(now);
            }
        }
        self.overflow.tidy(|window| self.is_idle(window, now), self.map.watch());
    }

    /// Removes the idle keys of one shard, and frees unneeded memory; returns the number of visited keys.
    pub(crate) fn sweep_step(&self, now: u64) -> usize {
        self.map.sweep_step(|window| self.keeps(window, now))
    }

    /// Whether a window stays; frees what it does not need.
    fn keeps(&self, window: &mut Window, now: u64) -> bool {
        let stays = !self.is_idle(window, now);
        if stays {
            window.drop_expired(&self.horizon);
            window.trim(now);
        }
        stays
    }
}

impl Kept for WindowTable {
    fn keep_history(&self, spans: &[u32]) {
        self.horizon.assign(spans);
        self.shared_horizon.assign(spans);
    }

    fn may_go(&self, _: bool) -> bool {
        self.len() == 0 && self.overflow.is_unused()
    }
}

/// The two steps of a race that concurrent threads rarely hit.
#[cfg(test)]
mod tests {
    use super::*;

    /// A table that holds one key and has shared a window with others.
    fn full() -> WindowTable {
        let table = WindowTable::new(1, false, TableWatch::new("local", None));
        table.keep_history(&[100]);
        assert_eq!(charge(&table, b"known"), Place::Own);
        assert_eq!(charge(&table, b"stranger"), Place::Shared);
        table
    }

    fn charge(table: &WindowTable, key: &[u8]) -> Place {
        table.with(table.fingerprint(key), 1, |window, horizon| window.record_external(1, 1, horizon), |()| true).1
    }

    fn used(window: &mut Window, _: &Retention) -> u64 {
        window.used(1, 100)
    }

    /// Another request inserted the key after this one found the table full.
    #[test]
    fn a_key_that_became_known_is_not_served_from_the_overflow() {
        let table = full();
        let print = table.map.fingerprint(b"known");
        assert_eq!(table.with_overflow(print, 1, used), (1, Place::Own));
        assert_eq!(table.with_overflow(table.map.fingerprint(b"nobody"), 1, |_, _| ()).1, Place::Shared);
    }

    /// Otherwise another request could charge the shared window after its copy was made.
    #[test]
    fn no_request_charges_the_shared_window_of_a_key_that_becomes_known() {
        let table = full();
        assert_eq!(table.remove(b"known", |_| ()), Some(()));
        let print = table.map.fingerprint(b"stranger");
        let enter = |window: &mut Window, horizon: &Retention| (used(window, horizon), table.overflow.is_held(print));
        assert_eq!(table.with(print, 1, enter, |_| true), ((1, true), Place::Own));
        assert!(!table.overflow.is_held(print));
    }
}

//! The windows of all keys of one store: those of the engine's calls, and those of each named limit.

use std::sync::{Arc, Weak};

use super::cleanup::{self, Sweep};
use super::fingerprint::Fingerprint;
use super::queues::{LazyQueues, QueueBounds};
use super::registry::{Kept as _, PolicyRegistry};
use super::window_table::{Brief, Place, WindowTable};
use crate::correction::{RateLimitComparator, SetOutcome};
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::{self, Limit, Outcome, Retention, SetMode, Window};
use crate::error::ConfigError;
use crate::geometry::WindowGeometry;
use crate::policy::Policy;
use crate::quota::{HardLimitFactor, RateLimit};
use crate::strategy::Strategy;
use crate::telemetry::TableWatch;
use crate::time::TimeSource;

/// The settings of a local store.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) time: TimeSource,
    pub(crate) bucket_ms: u64,
    pub(crate) window_seconds: u64,
    pub(crate) hard: HardLimitFactor,
    pub(crate) max_keys: usize,
    pub(crate) queues: QueueBounds,
}

/// See the module documentation.
pub(crate) struct Windows {
    pub(crate) time: TimeSource,
    pub(crate) geometry: WindowGeometry,
    pub(crate) max_keys: usize,
    /// The keys of the engine's own calls.
    pub(crate) main: Arc<WindowTable>,
    /// The keys of the limits that layers opened.
    pub(crate) named: PolicyRegistry<WindowTable>,
    /// The engine's own calls that wait.
    pub(crate) queues: LazyQueues,
    /// The kind of the store, for metrics.
    store: &'static str,
}

impl Windows {
    /// `store` is the kind of the store, for metrics.
    pub(crate) fn new(settings: Settings, store: &'static str) -> Result<Arc<Self>, ConfigError> {
        let Settings { time, bucket_ms, window_seconds, hard, max_keys, queues } = settings;
        if max_keys == 0 {
            return Err(ConfigError::ZeroMaxKeys);
        }
        let geometry = WindowGeometry::new(bucket_ms, time.lag_ms(), window_seconds, hard)?;
        geometry.check_bucket(window_seconds.saturating_mul(1_000));
        let main = WindowTable::new(max_keys, false, TableWatch::new(store, None));
        main.keep_history(&[geometry.span()]);
        let named = PolicyRegistry::new(time.clone());
        let queues = LazyQueues::new(queues);
        Ok(Arc::new(Self { time, geometry, max_keys, main: Arc::new(main), named, queues, store }))
    }

    /// Returns the table of a policy's name, and the policy, which the caller must hold while it is in use.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        limits: &[Limit],
    ) -> Result<(Arc<WindowTable>, Arc<Policy>), ConfigError> {
        self.named.open(policy, limits, || self.new_table(policy))
    }

    /// Does the same for a policy that another store has opened.
    #[cfg(feature = "_redis")]
    pub(crate) fn accompany(
        &self,
        policy: &Policy,
        limits: &[Limit],
    ) -> Result<(Arc<WindowTable>, Arc<Policy>), ConfigError> {
        self.named.accompany(policy, limits, || self.new_table(policy))
    }

    fn new_table(&self, policy: &Policy) -> WindowTable {
        let watch = TableWatch::new(self.store, Some(policy.name()));
        match policy.is_in_flight() {
            true => WindowTable::of_permits(self.max_keys, watch),
            false => WindowTable::new(self.max_keys, policy.strategy() != Strategy::Absolute, watch),
        }
    }

    /// The number of keys, over all limits.
    pub(crate) fn keys(&self) -> usize {
        self.tables().iter().map(|table| table.len()).sum()
    }

    /// Starts to free the memory of idle keys in the background.
    pub(crate) fn start_cleanup(self: &Arc<Self>) {
        cleanup::start(&self.swept());
    }

    pub(crate) fn stop_cleanup(self: &Arc<Self>) {
        cleanup::stop(&self.swept());
    }

    fn swept(self: &Arc<Self>) -> Weak<dyn Sweep> {
        let swept: Weak<Self> = Arc::downgrade(self);
        swept
    }

    /// Decides on a key of one table.
    #[inline]
    pub(crate) fn decide(
        &self,
        table: &WindowTable,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
        suppressed: bool,
    ) -> Decision {
        let now_ms = self.time.now_ms();
        let (outcome, place) = self.outcome(table, table.fingerprint(key), now_ms, cost, limits, suppressed);
        let mut decision = self.geometry.decision(&outcome, cost, limits, now_ms);
        decision.is_overflow = place == Place::Shared;
        decision
    }

    /// Returns the decision on a key of one table without a charge; of the suppressed strategy, only the hard cap counts.
    pub(crate) fn look(
        &self,
        table: &WindowTable,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
        suppressed: bool,
    ) -> Decision {
        let now_ms = self.time.now_ms();
        let now = self.geometry.at(now_ms);
        let outcome = table.peek(key, now, |window, horizon| match suppressed {
            false => engine::absolute(window, table.at(window, now), cost, limits, horizon, false),
            true => engine::at_hard_cap(window, now, cost, limits),
        });
        self.geometry.decision(&outcome, 0, limits, now_ms)
    }

    /// Decides on a key of the engine's own calls by the absolute strategy, for a caller that needs no figures of an
    /// admission.
    pub(crate) fn inc_absolute(&self, key: &[u8], rate: &RateLimit, cost: u64) -> RateLimitDecision {
        let (now_ms, print) = (self.time.now_ms(), self.main.fingerprint(key));
        let (now, limit) = (self.geometry.at(now_ms), self.geometry.limit(rate, false));
        let outcome = match self.main.absolute_briefly(print, now, cost, &limit) {
            Some(Brief::Charged { .. }) => return RateLimitDecision::Allowed,
            Some(Brief::Refused(refused)) => {
                return self.geometry.rejected(refused.fits_at(), refused.used_then(), limit.capacity, now_ms);
            }
            Some(Brief::Decided(outcome)) => outcome,
            None => self.main.absolute_new(print, now, cost, &[limit]).0,
        };
        self.geometry.brief_decision(&outcome, &[limit], now_ms)
    }

    /// Does the same by the suppressed strategy, for a caller that needs no figures of any decision.
    pub(crate) fn inc_suppressed(&self, key: &[u8], rate: &RateLimit, cost: u64) -> RateLimitDecision {
        let (now_ms, print) = (self.time.now_ms(), self.main.fingerprint(key));
        let limit = self.geometry.limit(rate, true);
        let outcome = match self.main.suppressed_briefly(print, self.geometry.at(now_ms), cost, &limit) {
            Some(Some(outcome)) => outcome,
            Some(None) => return RateLimitDecision::Allowed,
            None => self.outcome(&self.main, print, now_ms, cost, &[limit], true).0,
        };
        self.geometry.brief_decision(&outcome, &[limit], now_ms)
    }

    /// Decides on a key of one table; returns the outcome, and the window that decided.
    pub(crate) fn outcome(
        &self,
        table: &WindowTable,
        print: Fingerprint,
        now_ms: u64,
        cost: u64,
        limits: &[Limit],
        suppressed: bool,
    ) -> (Outcome, Place) {
        let now = self.geometry.at(now_ms);
        match suppressed {
            false if table.holds_permits() => table.permit(print, now, cost, limits),
            false => table.absolute(print, now, cost, limits),
            true => table.suppressed(print, now, cost, limits),
        }
    }

    /// Charges `cost` units of a key of one table by the absolute strategy, or as many as fit if `is_partial`. Returns
    /// the decision, and the units that were charged.
    pub(crate) fn reserve(
        &self,
        table: &WindowTable,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
        is_partial: bool,
    ) -> (Decision, u64) {
        let now_ms = self.time.now_ms();
        let now = self.geometry.at(now_ms);
        let decide = |window: &mut Window, horizon: &Retention| {
            let fits = if is_partial { engine::room(window, now, limits).min(cost) } else { cost };
            // Without room, the refusal describes the whole cost.
            let cost = if fits == 0 { cost } else { fits };
            (engine::absolute(window, now, cost, limits, horizon, true), cost)
        };
        let keep = |(outcome, cost): &(Outcome, u64)| outcome.is_allowed() && *cost > 0;
        let ((outcome, cost), place) = table.with(table.fingerprint(key), now, decide, keep);
        let decision = self.geometry.decision(&outcome, cost, limits, now_ms);
        let units = if outcome.is_allowed() { cost } else { 0 };
        (Decision { is_overflow: place == Place::Shared, ..decision }, units)
    }

    /// Charges units of a key of one table, whatever its limits.
    pub(crate) fn record(&self, table: &WindowTable, key: &[u8], units: u64) {
        let now = self.now();
        let charge = |window: &mut Window, horizon: &Retention| {
            window.record_external(table.at(window, now), units, horizon);
        };
        table.with(table.fingerprint(key), now, charge, |()| true);
    }

    /// Takes back up to `units` that a decision charged at a tick.
    pub(crate) fn refund(&self, table: &WindowTable, key: &[u8], units: u64, tick: u64) {
        let now = self.now();
        if units > 0 {
            table.settle(table.fingerprint(key), |window, horizon| window.refund(now, tick, units, horizon));
        }
    }

    /// Returns permits that a decision charged in a place at a tick. A tick from before a reset has no effect.
    pub(crate) fn release(&self, table: &WindowTable, key: &[u8], permits: u64, tick: u64, place: Place) {
        if permits > 0 {
            table.release(key, place, |window, horizon| {
                window.refund(window.held_at(0), tick, permits, horizon);
            });
        }
    }

    /// Sets the total of a key of one table within a span, if the comparator holds for its current total.
    pub(crate) fn set(
        &self,
        table: &WindowTable,
        key: &[u8],
        comparator: RateLimitComparator,
        (count, mode): (u64, SetMode),
        span: u32,
    ) -> SetOutcome {
        let now = self.now();
        let correct = |window: &mut Window, horizon: &Retention| {
            let previous_total = window.used(table.at(window, now), span);
            let matched = comparator.matches(previous_total);
            if matched {
                window.set(now, count, mode, span, horizon);
            }
            SetOutcome { matched, previous_total, current_total: window.used(now, span) }
        };
        let outcome = table.correct(key, now, correct, |outcome, is_windows| {
            // An unknown key that stays at 0 needs no window, unless it would otherwise share the charges of others.
            outcome.matched && (outcome.previous_total > 0 || outcome.current_total > 0 || is_windows)
        });
        if outcome.is_some_and(|outcome| outcome.matched && outcome.current_total == 0) {
            table.forget_empty(key, now);
        }
        outcome.unwrap_or(SetOutcome { matched: false, previous_total: 0, current_total: 0 })
    }

    pub(crate) fn now(&self) -> u64 {
        self.geometry.at(self.time.now_ms())
    }

    fn tables(&self) -> Vec<Arc<WindowTable>> {
        std::iter::once(Arc::clone(&self.main)).chain(self.named.all()).collect()
    }
}

impl Sweep for Windows {
    fn sweep_round(&self) {
        let now = self.now();
        for table in self.tables() {
            table.sweep_part(now, cleanup::ROUNDS_PER_PASS);
        }
        self.named.tidy();
    }
}

//! The windows of all keys of one store: those of the engine's calls, and those of each named limit.

use std::sync::{Arc, Weak};

use super::cleanup::{self, Sweep};
use super::registry::{Kept as _, PolicyRegistry};
use super::window_table::{Place, WindowTable};
use crate::decision::Decision;
use crate::engine::{self, Limit, Outcome, Retention, Window};
use crate::error::ConfigError;
use crate::geometry::WindowGeometry;
use crate::policy::Policy;
use crate::quota::HardLimitFactor;
use crate::time::TimeSource;

/// The settings of a local store.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) time: TimeSource,
    pub(crate) bucket_ms: u64,
    pub(crate) window_seconds: u64,
    pub(crate) hard: HardLimitFactor,
    pub(crate) max_keys: usize,
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
}

impl Windows {
    pub(crate) fn new(settings: Settings) -> Result<Arc<Self>, ConfigError> {
        let Settings { time, bucket_ms, window_seconds, hard, max_keys } = settings;
        if max_keys == 0 {
            return Err(ConfigError::ZeroMaxKeys);
        }
        let geometry = WindowGeometry::new(bucket_ms, time.lag_ms(), window_seconds, hard)?;
        geometry.check_bucket(window_seconds.saturating_mul(1_000));
        let main = WindowTable::new(max_keys);
        main.keep_history(&[geometry.span()]);
        let named = PolicyRegistry::new(time.clone());
        Ok(Arc::new(Self { time, geometry, max_keys, main: Arc::new(main), named }))
    }

    /// Returns the table of a policy's name, and the policy, which the caller must hold while it is in use.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        limits: &[Limit],
    ) -> Result<(Arc<WindowTable>, Arc<Policy>), ConfigError> {
        self.named.open(policy, limits, || WindowTable::new(self.max_keys))
    }

    /// Does the same for a policy that another store has opened.
    #[cfg(feature = "_redis")]
    pub(crate) fn accompany(
        &self,
        policy: &Policy,
        limits: &[Limit],
    ) -> Result<(Arc<WindowTable>, Arc<Policy>), ConfigError> {
        self.named.accompany(policy, limits, || WindowTable::new(self.max_keys))
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
        let (outcome, place, now_ms) = self.outcome(table, key, cost, limits, suppressed);
        let mut decision = self.geometry.decision(&outcome, cost, limits, now_ms);
        decision.is_overflow = place == Place::Shared;
        decision
    }

    /// Decides on a key of one table; returns the outcome, the window that decided, and the instant of the decision.
    #[inline]
    pub(crate) fn outcome(
        &self,
        table: &WindowTable,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
        suppressed: bool,
    ) -> (Outcome, Place, u64) {
        let now_ms = self.time.now_ms();
        let now = self.geometry.at(now_ms);
        let (outcome, place) = if suppressed {
            let random = fastrand::u32(..);
            let decide = |window: &mut Window, horizon: &Retention| {
                engine::suppressed(window, now, cost, limits, horizon, random)
            };
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        } else {
            let decide =
                |window: &mut Window, horizon: &Retention| engine::absolute(window, now, cost, limits, horizon, true);
            table.with(key, now, decide, |outcome| outcome.is_allowed() && cost > 0)
        };
        (outcome, place, now_ms)
    }

    /// Takes back up to `units` that a decision charged at a tick.
    pub(crate) fn refund(&self, table: &WindowTable, key: &[u8], units: u64, tick: u64) {
        let now = self.now();
        if units > 0 {
            table.settle(key, |window, horizon| {
                window.refund(now, tick, units, horizon);
            });
        }
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

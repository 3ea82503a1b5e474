//! This instance's share of a limit that another store keeps. It decides while that store is unavailable.

use std::sync::Arc;

use crate::correction::RateLimitComparator;
use crate::decision::Decision;
use crate::engine::{Limit, Outcome, SetMode};
use crate::error::ConfigError;
use crate::geometry::{EMPTY_SHARES, Shares};
use crate::keyspace::{Place, Step, WindowTable, Windows};
use crate::policy::Policy;
use crate::telemetry::RemoteWatch;

/// The histories of this instance's admissions under one limit's name.
#[derive(Clone)]
pub(crate) struct LocalShare {
    windows: Arc<Windows>,
    table: Arc<WindowTable>,
    watch: Arc<RemoteWatch>,
    /// Keeps the table while the share is in use.
    _policy: Option<Arc<Policy>>,
}

impl LocalShare {
    /// Creates the share of a policy, or of the engine's own calls if there is no policy.
    pub(crate) fn new(windows: &Arc<Windows>, policy: Option<&Policy>, limits: &[Limit]) -> Result<Self, ConfigError> {
        let limits: Vec<Limit> = limits.iter().map(|limit| windows.geometry.with_lag(*limit)).collect();
        let watch = RemoteWatch::new("redis", policy.map(Policy::name));
        let (table, policy) = match policy {
            Some(policy) => {
                let (table, policy) = windows.accompany(policy, &limits)?;
                (table, Some(policy))
            }
            None => (Arc::clone(&windows.main), None),
        };
        Ok(Self { windows: Arc::clone(windows), table, watch, _policy: policy })
    }

    /// Records an admission by the other store, whatever the share would have decided.
    pub(crate) fn record(&self, key: &[u8], cost: u64) {
        self.windows.record(&self.table, key, cost);
    }

    /// Decides by this instance's share of each limit, as one of `instances`.
    pub(crate) fn decide(&self, key: &[u8], cost: u64, limits: &[Limit], instances: u64, suppressed: bool) -> Decision {
        let mut parts = EMPTY_SHARES;
        let parts = self.parts(limits, instances, &mut parts);
        let (now_ms, print) = (self.now_ms(), self.table.fingerprint(key));
        let (outcome, place) = self.windows.outcome(&self.table, print, now_ms, cost, parts, suppressed);
        self.decision(&outcome, place, cost, limits, parts, now_ms)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.windows.time.now_ms()
    }

    /// This instance's part of each limit.
    pub(crate) fn parts<'a>(&self, limits: &[Limit], instances: u64, room: &'a mut Shares) -> &'a [Limit] {
        self.windows.geometry.local_shares(limits, instances, room)
    }

    /// This share's part of a decision on several limits, given its [`parts`](Self::parts).
    pub(crate) fn step<'a>(&'a self, key: &[u8], now_ms: u64, parts: &'a [Limit], suppressed: bool) -> Step<'a> {
        Step::new(&self.table, key, self.windows.geometry.at(now_ms), parts, suppressed)
    }

    /// The decision with this outcome by [`parts`](Self::parts) of the limits.
    pub(crate) fn decision(
        &self,
        outcome: &Outcome,
        place: Place,
        cost: u64,
        limits: &[Limit],
        parts: &[Limit],
        now_ms: u64,
    ) -> Decision {
        self.watch.degraded();
        let decision = self.windows.geometry.local_share_decision(outcome, cost, limits, parts, now_ms);
        Decision { is_overflow: place == Place::Shared, ..decision }
    }

    /// Does the same without a charge; of the suppressed strategy, only the hard cap counts.
    pub(crate) fn look(&self, key: &[u8], cost: u64, limits: &[Limit], instances: u64, suppressed: bool) -> Decision {
        let mut parts = EMPTY_SHARES;
        let parts = self.parts(limits, instances, &mut parts);
        self.windows.look(&self.table, key, cost, parts, suppressed)
    }

    /// Returns permits, whichever store admitted them. All permits of a key are in one place.
    pub(crate) fn release(&self, key: &[u8], permits: u64) {
        self.table.settle(self.table.fingerprint(key), |window, _| window.release(permits));
    }

    /// Takes back up to `units` that a decision of this share charged at a tick.
    pub(crate) fn refund(&self, key: &[u8], units: u64, tick: u64) {
        self.windows.refund(&self.table, key, units, tick);
    }

    /// Sets the units of a key, dated so many ticks ago.
    pub(crate) fn set(&self, key: &[u8], count: u64, age: u32) {
        let (always, replace) = (RateLimitComparator::Always, SetMode::Replace { age });
        self.windows.set(&self.table, key, always, (count, replace), self.table.longest_span());
    }

    /// Forgets a key.
    pub(crate) fn forget(&self, key: &[u8]) {
        self.table.remove(key, |_| ());
    }

    /// Forgets every key.
    pub(crate) fn clear(&self) {
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::geometry::WindowGeometry;
    use crate::keyspace::{QueueBounds, Settings};
    use crate::quota::RateLimit;
    use crate::time::TimeSource;

    fn share() -> LocalShare {
        let settings = Settings {
            time: TimeSource::system(),
            bucket_ms: 10,
            window_seconds: 60,
            hard: Default::default(),
            max_keys: 1_000,
            queues: QueueBounds { total: 1, per_key: 1 },
        };
        LocalShare::new(&Windows::new(settings, "redis").unwrap(), None, &[]).unwrap()
    }

    /// One of 20 instances has a share of 5 out of 100. A cost of 10 exceeds the share, but not the limit.
    #[test]
    fn a_cost_above_the_share_can_retry_after_a_window() {
        let share = share();
        let scale = WindowGeometry::new(10, 0, 60, Default::default()).unwrap();
        let limits = [scale.limit(&RateLimit::try_from(100.0 / 60.0).unwrap(), false)];
        let decide = |cost| share.decide(b"k", cost, &limits, 20, false);
        assert_eq!(decide(10).retry_after(), Some(Duration::from_secs(60)));
        assert_eq!(decide(101).retry_after(), None);
        assert!(decide(5).is_allowed() && decide(5).is_local_share());
        assert!(!decide(1).is_allowed());
    }

    /// The total of a window has 40 bits. Recorded units must not make it wrap around to 0.
    #[test]
    fn recorded_units_do_not_wrap_the_total() {
        let share = share();
        let scale = WindowGeometry::new(10, 0, 60, Default::default()).unwrap();
        let limits = [scale.limit(&RateLimit::try_from(1e9).unwrap(), false)];
        share.record(b"k", 1 << 39);
        assert!(!share.decide(b"k", 1, &limits, 1, false).is_allowed());
        share.record(b"k", 1 << 39);
        share.record(b"k", u64::MAX);
        assert!(!share.decide(b"k", 1, &limits, 1, false).is_allowed());
    }
}

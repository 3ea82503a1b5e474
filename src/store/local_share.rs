//! This instance's part of a limit that is kept elsewhere: what goes on when that store cannot be asked.

use std::sync::Arc;

use crate::decision::Decision;
use crate::engine::{Limit, Retention, Window};
use crate::error::ConfigError;
use crate::geometry::EMPTY_SHARES;
use crate::keyspace::{Place, WindowTable, Windows};
use crate::policy::Policy;

/// The histories of what this instance admitted under one limit's name.
#[derive(Clone)]
pub(crate) struct LocalShare {
    windows: Arc<Windows>,
    table: Arc<WindowTable>,
    /// Keeps the table for as long as the share is in use.
    _policy: Option<Arc<Policy>>,
}

impl LocalShare {
    /// The share of a policy, or without one that of the engine's own calls.
    pub(crate) fn new(windows: &Arc<Windows>, policy: Option<&Policy>, limits: &[Limit]) -> Result<Self, ConfigError> {
        let limits: Vec<Limit> = limits.iter().map(|limit| windows.geometry.with_lag(*limit)).collect();
        let (table, policy) = match policy {
            Some(policy) => {
                let (table, policy) = windows.accompany(policy, &limits)?;
                (table, Some(policy))
            }
            None => (Arc::clone(&windows.main), None),
        };
        Ok(Self { windows: Arc::clone(windows), table, _policy: policy })
    }

    /// Notes what the other store has admitted, whatever the share would have said.
    pub(crate) fn record(&self, key: &[u8], cost: u64) {
        let now = self.windows.now();
        let charge = |window: &mut Window, horizon: &Retention| window.record_external(now, cost, horizon);
        self.table.with(key, now, charge, |()| true);
    }

    /// Decides by the part of each limit that is this instance's, one of `instances`.
    pub(crate) fn decide(&self, key: &[u8], cost: u64, limits: &[Limit], instances: u64, suppressed: bool) -> Decision {
        let mut parts = EMPTY_SHARES;
        let parts = self.windows.geometry.local_shares(limits, instances, &mut parts);
        let (outcome, place, now_ms) = self.windows.outcome(&self.table, key, cost, parts, suppressed);
        let decision = self.windows.geometry.local_share_decision(&outcome, cost, limits, parts, now_ms);
        Decision { is_overflow: place == Place::Shared, ..decision }
    }

    /// Takes back up to `units` that a decision of this share charged at a tick.
    pub(crate) fn refund(&self, key: &[u8], units: u64, tick: u64) {
        self.windows.refund(&self.table, key, units, tick);
    }

    /// Forgets a key.
    pub(crate) fn forget(&self, key: &[u8]) {
        self.table.remove(key, |_, _| ());
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
    use crate::keyspace::Settings;
    use crate::quota::RateLimit;
    use crate::time::TimeSource;

    fn share() -> LocalShare {
        let settings = Settings {
            time: TimeSource::system(),
            bucket_ms: 10,
            window_seconds: 60,
            hard: Default::default(),
            max_keys: 1_000,
        };
        LocalShare::new(&Windows::new(settings).unwrap(), None, &[]).unwrap()
    }

    /// One of twenty instances has 5 of 100: a cost of 10 does not fit that, but it does not fit never.
    #[test]
    fn what_a_part_never_admits_may_try_again_after_a_window() {
        let share = share();
        let scale = WindowGeometry::new(10, 0, 60, Default::default()).unwrap();
        let limits = [scale.limit(&RateLimit::try_from(100.0 / 60.0).unwrap(), false)];
        let decide = |cost| share.decide(b"k", cost, &limits, 20, false);
        assert_eq!(decide(10).retry_after(), Some(Duration::from_secs(60)));
        assert_eq!(decide(101).retry_after(), None);
        assert!(decide(5).is_allowed() && decide(5).is_local_share());
        assert!(!decide(1).is_allowed());
    }

    /// The running total of a window has 40 bits: what was admitted elsewhere must not wrap it to nothing.
    #[test]
    fn what_was_admitted_elsewhere_is_never_too_much_to_count() {
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

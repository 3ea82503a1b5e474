//! This instance's part of a limit that is kept elsewhere: what goes on when that store cannot be asked.

use std::sync::Arc;

use super::table::{Place, Table};
use super::{Local, Shared};
use crate::decision::Decision;
use crate::engine::{Horizon, Limit, Window};
use crate::error::ConfigError;
use crate::scale::NO_PARTS;
use crate::store::Policy;

/// The histories of what this instance admitted under one limit's name.
#[derive(Clone)]
pub(crate) struct Share {
    shared: Arc<Shared>,
    table: Arc<Table>,
    /// Keeps the table for as long as the share is in use.
    _policy: Option<Arc<Policy>>,
}

impl Local {
    /// The share of a policy, or without one that of the engine's own calls.
    pub(crate) fn share(&self, policy: Option<&Policy>, limits: &[Limit]) -> Result<Share, ConfigError> {
        let shared = Arc::clone(&self.0);
        let limits: Vec<Limit> = limits.iter().map(|limit| shared.scale.with_lag(*limit)).collect();
        let new = || Table::new(shared.max_keys);
        let (table, policy) = match policy {
            Some(policy) => {
                let (table, policy) = shared.named.accompany(policy, &limits, new)?;
                (table, Some(policy))
            }
            None => (Arc::clone(&shared.main), None),
        };
        Ok(Share { shared, table, _policy: policy })
    }
}

impl Share {
    /// Notes what the other store has admitted, whatever the share would have said.
    pub(crate) fn record(&self, key: &[u8], cost: u64) {
        let now = self.shared.now();
        let charge = |window: &mut Window, horizon: &Horizon| window.absorb(now, cost, horizon);
        self.table.with(key, now, charge, |()| true);
    }

    /// Decides by the part of each limit that is this instance's, one of `instances`.
    pub(crate) fn decide(&self, key: &[u8], cost: u64, limits: &[Limit], instances: u64, suppressed: bool) -> Decision {
        let mut parts = NO_PARTS;
        let parts = self.shared.scale.parts(limits, instances, &mut parts);
        let (outcome, place, now_ms) = self.shared.outcome(&self.table, key, cost, parts, suppressed);
        let decision = self.shared.scale.part_decision(&outcome, cost, limits, parts, now_ms);
        Decision { is_overflow: place == Place::Shared, ..decision }
    }

    /// Takes back what one of its own decisions charged.
    pub(crate) fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        self.shared.refund(&self.table, key, cost, decision);
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

    use crate::limiter::RateLimiter;
    use crate::quota::RateLimit;
    use crate::scale::Scale;

    /// One of twenty instances has 5 of 100: a cost of 10 does not fit that, but it does not fit never.
    #[test]
    fn what_a_part_never_admits_may_try_again_after_a_window() {
        let limiter = RateLimiter::builder().build().unwrap();
        let share = limiter.local().share(None, &[]).unwrap();
        let scale = Scale::new(10, 0, 60, Default::default()).unwrap();
        let limits = [scale.limit(&RateLimit::try_from(100.0 / 60.0).unwrap(), false)];
        let decide = |cost| share.decide(b"k", cost, &limits, 20, false);
        assert_eq!(decide(10).retry_after(), Some(Duration::from_secs(60)));
        assert_eq!(decide(101).retry_after(), None);
        assert!(decide(5).is_allowed() && decide(5).is_local_share());
        assert!(!decide(1).is_allowed());
    }
}

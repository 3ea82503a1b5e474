//! This instance's part of a limit that is kept elsewhere: what goes on when that store cannot be asked.

use std::sync::Arc;

use super::table::Table;
use super::{Local, Shared};
use crate::decision::Decision;
use crate::engine::{Horizon, Limit, Window};
use crate::error::ConfigError;
use crate::quota::MAX_QUOTAS;
use crate::store::Policy;

/// The histories of what this instance admitted under one limit's name.
#[derive(Clone)]
pub(crate) struct Share {
    shared: Arc<Shared>,
    table: Arc<Table>,
}

impl Local {
    /// The share of a policy, or without one that of the engine's own calls.
    pub(crate) fn share(&self, policy: Option<&Policy>, limits: &[Limit]) -> Result<Share, ConfigError> {
        let shared = Arc::clone(&self.0);
        let limits: Vec<Limit> = limits.iter().map(|limit| shared.scale.with_lag(*limit)).collect();
        let new = || Table::new(shared.max_keys);
        let table = match policy {
            Some(policy) => shared.named.open(policy, new, |table| table.horizon().serve(&limits))?.0,
            None => Arc::clone(&shared.main),
        };
        Ok(Share { shared, table })
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
        let part = |units: u64| if units == 0 { 0 } else { (units / instances.max(1)).max(1) };
        let mut parts = [Limit { capacity: 0, hard: 0, window: 1, span: 1, fifth: 1 }; MAX_QUOTAS];
        let parts = &mut parts[..limits.len().min(MAX_QUOTAS)];
        for (here, limit) in parts.iter_mut().zip(limits) {
            let limit = self.shared.scale.with_lag(*limit);
            *here = Limit { capacity: part(limit.capacity), hard: part(limit.hard), ..limit };
        }
        let (outcome, now_ms) = self.shared.outcome(&self.table, key, cost, parts, suppressed);
        Decision { is_local_share: true, ..self.shared.scale.decision(&outcome, cost, parts, now_ms) }
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
        self.table.clear(self.shared.now());
    }
}

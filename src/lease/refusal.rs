//! The refusals of Redis that this instance knows, and how long they are valid.

use super::params::StoreParams;
use crate::decision::Decision;

/// The most refusals of different costs per key.
const MOST: usize = 4;

/// A valid refusal.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Refusal {
    /// Until when it is valid, counted from before the request was sent.
    until: u64,
    /// When the request certainly fits, counted from when the reply arrived.
    free_at: u64,
    cost: u64,
    limits_id: u64,
    decision: Decision,
}

/// The refusals of one key.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Keeps a refusal of a cost until an instant; the request fits at `free_at`.
    pub(crate) fn insert(&mut self, cost: u64, limits_id: u64, (until, free_at): (u64, u64), decision: Decision) {
        self.0.retain(|refusal| refusal.limits_id == limits_id && refusal.cost != cost);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Refusal { until, free_at, cost, limits_id, decision });
    }

    /// Returns the refusal of a cost, if it is valid at any possible lag of this clock.
    pub(crate) fn get(&self, now: u64, cost: u64, limits_id: u64, params: &StoreParams) -> Option<Decision> {
        let is_it = |refusal: &&Refusal| refusal.cost == cost && refusal.limits_id == limits_id;
        let refusal = self.0.iter().find(is_it)?;
        (now + params.lag_ms < refusal.until).then(|| refusal.at(now, params))
    }

    /// The least wait of a cost of 1, as far as a refusal shows it.
    pub(crate) fn wait(&self, now: u64, params: &StoreParams) -> Option<u64> {
        self.0.last().map(|refusal| refusal.at(now, params).retry_after_ms)
    }

    pub(crate) fn holds_any(&self, now: u64) -> bool {
        self.0.iter().any(|refusal| now < refusal.until)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl Refusal {
    /// Returns the refusal with the rest of its waits.
    fn at(&self, now: u64, params: &StoreParams) -> Decision {
        if self.decision.retry_after_ms == u64::MAX {
            return self.decision;
        }
        let retry_after_ms = self.free_at.saturating_sub(now).saturating_add(params.lag_ms).max(1);
        let gone = self.decision.retry_after_ms.saturating_sub(retry_after_ms);
        let reset_after_ms = self.decision.reset_after_ms.saturating_sub(gone);
        Decision { retry_after_ms, reset_after_ms, ..self.decision }
    }
}

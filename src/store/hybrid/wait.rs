//! Calls that wait for units of a hybrid store.

use std::sync::Arc;
use std::time::Duration;

use super::calls::HybridLimits;
use super::state::{Shared, Wanted};
use crate::decision::{Charge, Decision, RateLimitDecision};
use crate::engine::Limit;
use crate::error::StoreError;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{Queues, Ticket};
use crate::lease::OwnedLimitSet;
use crate::quota::RateLimit;
use crate::runtime::Carrier;
use crate::store::budget::BudgetResponse;
use crate::store::waiting::{self, Ask, PendingDecision};
use crate::strategy::Absolute;

impl HybridLimits<'_, Absolute> {
    /// Asks for `n` units, and waits until they are admitted, for at most `max_wait` and one round trip.
    ///
    /// It is [`RedisLimits::until_allowed`](crate::store::RedisLimits::until_allowed) with decisions from memory: while
    /// a lease covers the waiting calls, they need no round trips.
    ///
    /// # Errors and cancellation
    ///
    /// The same as for [`RedisLimits::until_allowed`](crate::store::RedisLimits::until_allowed).
    pub async fn until_allowed(
        self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
        max_wait: Duration,
    ) -> Result<RateLimitDecision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let own = Self::own(shared, &limits);
        let ask = HybridAsk { shared, key: key.as_ref(), cost: n, limits, own, carrier: Carrier::here() };
        let result = waiting::until_allowed(shared.queues.get(), &shared.time, &ask, max_wait).await;
        waiting::or_admitted(result, shared.on_store_error)
    }
}

/// A request for units of a key of the engine's calls.
struct HybridAsk<'a> {
    shared: &'a Arc<Shared>,
    key: &'a [u8],
    cost: u64,
    limits: [Limit; 1],
    own: OwnedLimitSet,
    carrier: Carrier,
}

impl HybridAsk<'_> {
    fn wanted(&self) -> Wanted<'_> {
        HybridLimits::<Absolute>::wanted(self.shared, self.key, self.cost, &self.limits)
    }
}

impl Ask for HybridAsk<'_> {
    fn fingerprint(&self, queues: &Queues) -> Fingerprint {
        queues.fingerprint(self.key)
    }

    fn cost(&self) -> u64 {
        self.cost
    }

    fn capacity(&self) -> u64 {
        self.own.scaled[0].capacity
    }

    fn hold_ms(&self) -> u64 {
        self.shared.redis.geometry.hold_ms(&self.limits[0])
    }

    fn at_once(&self) -> Option<Decision> {
        let (decision, low) = self.shared.decide_at_once(&self.shared.main, &self.wanted()).1?;
        if let Some(low) = low {
            self.shared.renew_early(&self.shared.main.key_ref(self.key), low);
        }
        Some(decision)
    }

    fn decide(&self) -> BudgetResponse {
        self.shared.decide(&self.shared.main, &self.wanted(), || self.own.clone())
    }

    fn abandon(&self, pending: PendingDecision, ticket: Arc<Ticket>) {
        let (shared, key, cost) = (Arc::clone(self.shared), Box::<[u8]>::from(self.key), self.cost);
        waiting::settle(&self.carrier, pending, ticket, move |decision| async move {
            let table = &shared.main;
            match decision.charge {
                Charge::Window { tick, units } if units > 0 => shared.refund(table, &key, tick, units).await,
                charge => {
                    let print = table.fingerprint(&key);
                    table.with(print, |state| state.refund(cost, charge, &table.here));
                }
            }
        });
    }
}

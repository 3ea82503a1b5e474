//! Calls that wait for units in Redis.

use std::sync::Arc;
use std::time::Duration;

use super::calls::RedisLimits;
use super::state::{Shared, Wanted};
use crate::decision::{Charge, Decision, RateLimitDecision};
use crate::engine::Limit;
use crate::error::StoreError;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{Queues, Ticket};
use crate::quota::RateLimit;
use crate::runtime::Carrier;
use crate::script::{Correction, Mode};
use crate::store::budget::BudgetResponse;
use crate::store::waiting::{self, Ask, PendingDecision};
use crate::strategy::Absolute;

impl RedisLimits<'_, Absolute> {
    /// Asks for `n` units, and waits until they are admitted, for at most `max_wait` and one round trip.
    ///
    /// It charges only when it returns an admission. If `n` units cannot be admitted in time, it returns the refusal as
    /// soon as this is known. The refusal states the wait from then on.
    ///
    /// The waiting calls of this instance for one key are admitted first come, first served, whatever their costs. Only
    /// the first of them asks Redis, when its wait is over, so this instance admits one waiting call of a key per round
    /// trip. If that is too slow, use [`HybridLimits::until_allowed`](crate::store::HybridLimits::until_allowed).
    /// Instances compete for the units. Calls of [`inc`](Self::inc) do not queue.
    ///
    /// It measures time by the system's clock. A correction, such as [`delete`](Self::delete), does not shorten a wait
    /// that has begun.
    ///
    /// # Errors
    ///
    /// Those of [`inc`](Self::inc); a failure of Redis ends the wait. In addition, an error of the kind
    /// [`QueueFull`](crate::StoreErrorKind::QueueFull), as for
    /// [`LocalLimits::until_allowed`](crate::store::LocalLimits::until_allowed).
    ///
    /// # Cancellation
    ///
    /// A call that is dropped charges nothing: if it is dropped during a round trip, the units are returned in the
    /// background, and then the next call has its turn. This needs a runtime that still runs, and Redis must reply.
    pub async fn until_allowed(
        self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
        max_wait: Duration,
    ) -> Result<RateLimitDecision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let ask = RedisAsk { shared, key: key.as_ref(), cost: n, limits, carrier: Carrier::here() };
        let result = waiting::until_allowed(shared.windows.queues.get(), &shared.time, &ask, max_wait).await;
        waiting::or_admitted(result, shared.client.on_store_error)
    }
}

/// A request for units of a key of the engine's calls.
struct RedisAsk<'a> {
    shared: &'a Arc<Shared>,
    key: &'a [u8],
    cost: u64,
    limits: Arc<[Limit]>,
    carrier: Carrier,
}

impl Ask for RedisAsk<'_> {
    fn fingerprint(&self, queues: &Queues) -> Fingerprint {
        queues.fingerprint(self.key)
    }

    fn cost(&self) -> u64 {
        self.cost
    }

    fn capacity(&self) -> u64 {
        self.limits[0].capacity
    }

    fn hold_ms(&self) -> u64 {
        self.shared.client.geometry.hold_ms(&self.limits[0])
    }

    fn at_once(&self) -> Option<Decision> {
        None
    }

    fn decide(&self) -> BudgetResponse {
        let wanted = Wanted { key: self.key, cost: self.cost, limits: &self.limits, mode: Mode::Absolute };
        self.shared.decide(&self.shared.main, &wanted)
    }

    fn abandon(&self, pending: PendingDecision, ticket: Arc<Ticket>) {
        let (shared, key, cost) = (Arc::clone(self.shared), Box::<[u8]>::from(self.key), self.cost);
        waiting::settle(&self.carrier, pending, ticket, move |decision| async move {
            match decision.charge {
                Charge::Window { tick, units } if units > 0 => {
                    let refund = Correction::Refund { stamp: tick, units };
                    let _ = shared.correct(&shared.main.keys, &key, refund).await;
                }
                _ => shared.take_back(&shared.main, &key, cost, &decision),
            }
        });
    }
}

use std::pin::Pin;
use std::sync::Arc;

use crate::decision::Decision;
use crate::error::StoreError;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{Queues, Ticket};
use crate::store::budget::BudgetResponse;

/// The decision of a store, after I/O.
pub(in crate::store) type PendingDecision = Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>;

/// A request for units of one key, as one store decides it.
pub(in crate::store) trait Ask {
    /// The key of the queue.
    fn fingerprint(&self, queues: &Queues) -> Fingerprint;

    fn cost(&self) -> u64;

    /// The largest cost that can be admitted.
    fn capacity(&self) -> u64;

    /// How long a unit counts against the limit, in milliseconds: its window and the rest of its bucket.
    fn hold_ms(&self) -> u64;

    /// Decides without I/O if the store can. Only an admission charges.
    fn at_once(&self) -> Option<Decision>;

    /// Decides. Only an admission charges.
    fn decide(&self) -> BudgetResponse;

    /// What the store would answer to a request for `units`, if it knows this without I/O. It charges nothing.
    fn foresee(&self, units: u64) -> Option<Decision> {
        let _ = units;
        None
    }

    /// Settles a decision for which no call waits any more: takes back its charge. The ticket keeps the turn until then.
    fn abandon(&self, pending: PendingDecision, ticket: Arc<Ticket>) {
        drop((pending, ticket));
    }
}

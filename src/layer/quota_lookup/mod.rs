//! Quotas that an async function finds, kept for a time.
//!
//! - **One lookup.** Of all concurrent requests with one key, one calls the function. All of them wait for its result.
//!   Each of them can continue the lookup, so none depends on the others.
//! - **Old values.** A refresh keeps one request waiting. The others use the old value until it is twice as old as
//!   the time to live. If a refresh fails, all use the old value, for as long as the source fails.
//! - **Pauses.** After a failure, the function is not called for this key for a second. A panic and a lookup that
//!   takes longer than five seconds are failures.
//! - **Bounded memory.** The cache keeps fingerprints of keys and at most a set number of them.

mod cache;
mod flight;
mod lookup;
mod slot;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::cache::Slots;
pub(super) use self::flight::Waiter;
use self::lookup::{Function, Lookup};
pub(super) use self::slot::Answer;
use self::slot::Next;
use crate::key::RequestView;
use crate::quota::Quotas;
use crate::time::{TimeSource, millis};

const MOST_KEYS: usize = 10_000;
const TTL: Duration = Duration::from_secs(60);
/// The longest time for which a lookup runs.
const DEADLINE: Duration = Duration::from_secs(5);

/// An async function that finds the quotas of a request, with its cache. Clones share the cache.
#[derive(Clone)]
pub(super) struct QuotaLookup {
    function: Arc<Function>,
    slots: Arc<Slots>,
    ttl_ms: u64,
    deadline: Duration,
    clock: TimeSource,
}

/// The quotas of a request, or a future that finds them.
pub(super) enum Found {
    Ready(Answer),
    Pending(Waiter<Answer>),
}

impl QuotaLookup {
    /// Keeps 10 000 keys, each for 60 seconds.
    ///
    /// The text of an error is not used, because it may contain the key.
    pub(super) fn new<F, Fut, Q, E>(find: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Q, E>> + Send + 'static,
        Q: Into<Quotas>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let function: Arc<Function> = Arc::new(move |request: &RequestView<'_>| {
            let finding = find(request);
            Box::pin(async move { finding.await.ok().map(Into::into) })
        });
        let slots = Arc::new(Slots::new(MOST_KEYS));
        Self { function, slots, ttl_ms: millis(TTL), deadline: DEADLINE, clock: TimeSource::system() }
    }

    /// Sets the size of the cache and the time to live of its values. `most_keys` is at least 1.
    ///
    /// With a `ttl` of zero, only concurrent requests share a result, and the last good value is kept for failures.
    pub(super) fn cached(self, most_keys: usize, ttl: Duration) -> Self {
        Self { slots: Arc::new(Slots::new(most_keys)), ttl_ms: millis(ttl), ..self }
    }

    #[cfg(test)]
    pub(super) fn clock(self, clock: TimeSource) -> Self {
        Self { clock, ..self }
    }

    /// Finds the quotas of a key. `key` must be injective. A fresh value needs no allocation.
    ///
    /// The function is called without a lock. It must not block, because requests with the same key wait for it.
    #[inline]
    pub(super) fn find(&self, request: &RequestView<'_>, key: &[u8]) -> Found {
        let slot = self.slots.slot(key);
        let now_ms = self.clock.now_ms();
        match slot.next(now_ms, self.ttl_ms) {
            Next::Use(answer) => Found::Ready(answer),
            Next::Wait(flight) => Found::Pending(Waiter::new(flight)),
            Next::Start(flight) => {
                let lookup = Lookup { slot, clock: self.clock.clone(), began_ms: now_ms, deadline: self.deadline };
                match lookup.start(&*self.function, request) {
                    Ok(future) => flight.start(future),
                    Err(answer) => flight.end(answer),
                }
                Found::Pending(Waiter::new(flight))
            }
        }
    }
}

impl fmt::Debug for QuotaLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaLookup")
            .field("most_keys", &self.slots.most_keys())
            .field("ttl_ms", &self.ttl_ms)
            .finish_non_exhaustive()
    }
}

//! What is known about the quotas of one key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::flight::Flight;
use crate::quota::Quotas;

/// How long a key is not looked up after a failure, in milliseconds.
const PAUSE_MS: u64 = 1_000;

/// The lookup failed, and there is no earlier value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::layer) struct LookupFailed;

/// The result of a lookup for a request.
pub(in crate::layer) type Answer = Result<Quotas, LookupFailed>;

/// The latest value of one key, and the lookup that is running.
#[derive(Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// Set since a failure, until the next success.
    paused_until_ms: Option<u64>,
    /// Weak, so that the lookup ends with the last request that waits for it.
    flight: Weak<Flight<Answer>>,
}

struct Known {
    quotas: Quotas,
    /// When the lookup began. The value cannot be older.
    at_ms: u64,
}

/// What a request does.
pub(super) enum Next {
    Use(Answer),
    Wait(Arc<Flight<Answer>>),
    /// The request starts a lookup. Until then, other requests already wait for it.
    Start(Arc<Flight<Answer>>),
}

impl Slot {
    /// Decides what a request does.
    ///
    /// A value is used for `ttl_ms`. After that, one request looks up a new one. The others use the old one for
    /// another `ttl_ms`, and then wait. While the source fails, they use the old one without waiting.
    pub(super) fn next(&self, now_ms: u64, ttl_ms: u64) -> Next {
        let mut state = self.lock();
        let age = state.known.as_ref().map(|known| now_ms.saturating_sub(known.at_ms));
        let is_younger_than = |most: u64| age.is_some_and(|age| age < most);
        let is_paused = state.paused_until_ms.is_some_and(|until| now_ms < until);
        if is_younger_than(ttl_ms) || is_paused {
            return Next::Use(state.last_good());
        }
        let is_failing = state.paused_until_ms.is_some() && age.is_some();
        if state.flight.strong_count() > 0 && (is_failing || is_younger_than(ttl_ms.saturating_mul(2))) {
            return Next::Use(state.last_good());
        }
        if let Some(flight) = state.flight.upgrade() {
            return Next::Wait(flight);
        }
        let flight = Arc::new(Flight::new());
        state.flight = Arc::downgrade(&flight);
        Next::Start(flight)
    }

    /// Stores what a lookup found that began at `at_ms`. Returns the answer to its requests.
    pub(super) fn found(&self, quotas: Quotas, at_ms: u64) -> Answer {
        let mut state = self.lock();
        *state = State { known: Some(Known { quotas, at_ms }), ..State::default() };
        state.last_good()
    }

    /// Stores that a lookup failed. Returns the answer to its requests, which is the old value if there is one.
    pub(super) fn failed(&self, now_ms: u64) -> Answer {
        let mut state = self.lock();
        state.flight = Weak::new();
        state.paused_until_ms = Some(now_ms.saturating_add(PAUSE_MS));
        state.last_good()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn last_good(&self) -> Answer {
        self.known.as_ref().map(|known| known.quotas.clone()).ok_or(LookupFailed)
    }
}

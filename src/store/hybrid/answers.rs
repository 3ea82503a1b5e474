//! What Redis replied about keys for a short time, where this instance has no state of its own to answer from.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::decision::Decision;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::prehashed::Prehashed;

/// The most keys whose answers are kept.
const MOST_KEYS: usize = 65_536;

/// The newest answer for each of a bounded number of keys.
#[derive(Default)]
pub(super) struct Answers {
    /// Created with the first answer, because most budgets need none.
    newest: OnceLock<Newest>,
}

type Newest = Cache<Fingerprint, Answer, UnitWeighter, Prehashed>;

/// A decision without a charge.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    asked: Instant,
    cost: u64,
    decision: Decision,
    /// Whether it is being asked for again.
    is_renewed: bool,
}

impl Answer {
    pub(super) fn new(asked: Instant, cost: u64, decision: Decision) -> Self {
        Self { asked, cost, decision, is_renewed: false }
    }

    /// The same answer, marked as being asked for again.
    pub(super) fn renewed(self) -> Self {
        Self { is_renewed: true, ..self }
    }

    pub(super) fn is_renewed(&self) -> bool {
        self.is_renewed
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked)
    }

    /// The decision at a later time.
    pub(super) fn at(&self, now: Instant) -> Decision {
        self.decision.later(self.age(now))
    }

    /// Whether nothing but a charge or a correction can have changed the verdict: the wait of a refusal is not over.
    pub(super) fn stands(&self, now: Instant) -> bool {
        self.decision.is_allowed() || self.decision.retry_after().is_none_or(|wait| self.age(now) < wait)
    }
}

impl Answers {
    /// The answer for a cost that stands, and is at most so old.
    pub(super) fn get(&self, print: Fingerprint, cost: u64, most: Duration) -> Option<(Answer, Instant)> {
        let (answer, now) = (self.newest.get()?.get(&print)?, Instant::now());
        (answer.cost == cost && answer.age(now) <= most && answer.stands(now)).then_some((answer, now))
    }

    /// Keeps an answer, unless a later question has one already.
    pub(super) fn insert(&self, print: Fingerprint, answer: Answer) {
        let newest = self.newest.get_or_init(|| {
            let most = MOST_KEYS as u64;
            Cache::with(MOST_KEYS, most, UnitWeighter, Prehashed::default(), DefaultLifecycle::default())
        });
        if newest.get(&print).is_none_or(|known| known.asked <= answer.asked) {
            newest.insert(print, answer);
        }
    }

    pub(super) fn forget(&self, print: Fingerprint) {
        self.newest.get().map(|newest| newest.remove(&print));
    }
}

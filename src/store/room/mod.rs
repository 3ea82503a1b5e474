//! Requests of a layer that wait instead of being refused.

mod pauses;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrayvec::ArrayVec;

use self::pauses::Pauses;
use crate::decision::{Decision, Verdict};
#[cfg(feature = "_redis")]
use crate::keyspace::Ticket;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{QueueBounds, Queues};
#[cfg(feature = "_redis")]
use crate::runtime::Carrier;
use crate::store::budget::BudgetResponse;
use crate::store::local;
use crate::store::part::{Decisions, MAX_LIMITS, Part, PendingDecisions};
use crate::store::reserve::OwnedPart;
use crate::store::together::decide_into;
use crate::store::waiting::{Ask, until_allowed};
#[cfg(feature = "_redis")]
use crate::store::waiting::{PendingDecision, settle};
use crate::time::{TimeSource, millis};

/// The queues of one layer, and the pauses that servers asked for.
pub(crate) struct WaitingRoom {
    options: WaitOptions,
    queues: Arc<Queues>,
    pauses: Option<Pauses>,
    /// The clock of the store, known from the first decision.
    time: OnceLock<TimeSource>,
}

/// The settings of a [`WaitingRoom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitOptions {
    pub(crate) max_wait: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) max_waiting_per_key: usize,
    /// The longest pause that a server can ask for; `None` if pauses are not heeded.
    pub(crate) longest_pause: Option<Duration>,
}

impl WaitingRoom {
    pub(crate) fn new(options: WaitOptions) -> Self {
        let bounds = QueueBounds { total: options.max_waiting, per_key: options.max_waiting_per_key };
        let pauses = options.longest_pause.map(Pauses::new);
        Self { options, queues: Queues::new(bounds), pauses, time: OnceLock::new() }
    }

    pub(crate) fn options(&self) -> &WaitOptions {
        &self.options
    }

    /// Identifies the keys of a request.
    pub(crate) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.queues.fingerprint(key)
    }

    /// Whether responses can ask for a pause.
    pub(crate) fn heeds_pauses(&self) -> bool {
        self.pauses.is_some()
    }

    /// Sends no request with these keys for a time.
    pub(crate) fn pause(&self, key: Fingerprint, wait: Duration) {
        if let (Some(pauses), Some(time)) = (&self.pauses, self.time.get()) {
            pauses.pause(key, wait, time.now_ms());
        }
    }

    /// Decides like [`decide_into`]. A request that would be refused waits for its turn, for at most `max_wait`.
    pub(crate) fn decide_into(
        self: &Arc<Self>,
        key: Fingerprint,
        parts: &[Part<'_>],
        max_wait: Duration,
        decisions: &mut Decisions,
    ) -> Option<PendingDecisions> {
        if parts.iter().all(|part| part.ask.cost == 0) {
            return decide_into(parts, decisions);
        }
        let max_wait = max_wait.min(self.options.max_wait);
        let time = self.time.get_or_init(|| local::clock(parts[0].budget).unwrap_or_else(TimeSource::system));
        let waiting = || Waiting::new(self, time.clone(), key, parts);
        if self.queues.is_waited_for(key) {
            return Some(Box::pin(waiting().complete(None, max_wait)));
        }
        let pending = match self.paused(key, time) {
            Some(wait_ms) => {
                decisions.clear(parts.len());
                refuse(decisions, parts, &pause(wait_ms));
                None
            }
            None => decide_into(parts, decisions),
        };
        match pending {
            None if !can_wait(decisions, parts, max_wait) => None,
            None => Some(Box::pin(waiting().complete(Some(std::mem::take(decisions)), max_wait))),
            Some(pending) => {
                let waiting = waiting();
                Some(Box::pin(async move {
                    let decisions = pending.await;
                    match waiting.visit(|parts| can_wait(&decisions, parts, max_wait)) {
                        true => waiting.complete(Some(decisions), max_wait).await,
                        false => decisions,
                    }
                }))
            }
        }
    }

    fn paused(&self, key: Fingerprint, time: &TimeSource) -> Option<u64> {
        self.pauses.as_ref()?.wait(key, time.now_ms())
    }
}

impl fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingRoom")
            .field("options", &self.options)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// A refusal for the rest of a pause.
fn pause(wait_ms: u64) -> Decision {
    Decision::rejected(0, 0, Some(Duration::from_millis(wait_ms)))
}

/// The decision on a request, by its limit with the longest wait. Without a useful wait, it is final.
fn summary(decisions: &Decisions, parts: &[Part<'_>]) -> Decision {
    if decisions.is_allowed() {
        return Decision::allowed(0, 0);
    }
    let refusing = parts.iter().enumerate().filter(|(_, part)| part.is_enforced);
    let refusals = refusing.filter_map(|(index, _)| decisions.get(index).filter(|decision| !decision.is_allowed()));
    match refusals.max_by_key(|decision| decision.retry_after_ms) {
        // The suppressed strategy sheds requests to reduce the load. To ask again would add to it.
        Some(refusal) if refusal.verdict == Verdict::Rejected => *refusal,
        _ => Decision::rejected(0, 0, None),
    }
}

fn can_wait(decisions: &Decisions, parts: &[Part<'_>], max_wait: Duration) -> bool {
    let summary = summary(decisions, parts);
    !summary.is_allowed() && summary.retry_after_ms <= millis(max_wait)
}

/// Records a refusal that no limit has made: that of a pause, or of a queue.
///
/// The limit with the longest wait shows it. If there is none, the first enforced limit that charges the request does.
fn refuse(decisions: &mut Decisions, parts: &[Part<'_>], refusal: &Decision) {
    let known = |index: &usize| {
        let decision = decisions.get(*index).filter(|decision| !decision.is_allowed());
        (decision.map(|decision| decision.retry_after_ms), parts[*index].ask.cost > 0)
    };
    let enforced = (0..parts.len()).filter(|index| parts[*index].is_enforced);
    let Some(index) = enforced.rev().max_by_key(known) else { return };
    decisions.record(index, true, *refusal);
}

/// A request that waits, or may have to.
struct Waiting {
    room: Arc<WaitingRoom>,
    time: TimeSource,
    key: Fingerprint,
    parts: Arc<[OwnedPart]>,
    /// The last decisions, once the request had its turn.
    last: Arc<Mutex<Option<Decisions>>>,
    #[cfg(feature = "_redis")]
    carrier: Carrier,
}

impl Waiting {
    fn new(room: &Arc<WaitingRoom>, time: TimeSource, key: Fingerprint, parts: &[Part<'_>]) -> Self {
        Self {
            room: Arc::clone(room),
            time,
            key,
            parts: parts.iter().map(OwnedPart::of).collect(),
            last: Arc::default(),
            #[cfg(feature = "_redis")]
            carrier: Carrier::here(),
        }
    }

    fn visit<R>(&self, visit: impl FnOnce(&[Part<'_>]) -> R) -> R {
        visit(&as_parts(&self.parts))
    }

    /// Waits for its turn. `first` are the decisions before the wait, if there are any.
    async fn complete(self, first: Option<Decisions>, max_wait: Duration) -> Decisions {
        let result = until_allowed(&self.room.queues, &self.time, &self, max_wait).await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (result, last, first) {
            (_, Some(last), _) => last,
            (Ok(refusal), None, first) => {
                let mut decisions = first.unwrap_or_else(|| Decisions::of(self.parts.len()));
                self.visit(|parts| refuse(&mut decisions, parts, &refusal));
                decisions
            }
            // The queue is full.
            (Err(_), None, Some(first)) => first,
            (Err(_), None, None) => self.decide_alone().await,
        }
    }

    /// Decides as if the layer had no queue.
    async fn decide_alone(&self) -> Decisions {
        let mut decisions = Decisions::default();
        match self.visit(|parts| decide_into(parts, &mut decisions)) {
            Some(pending) => pending.await,
            None => decisions,
        }
    }
}

fn as_parts(parts: &[OwnedPart]) -> ArrayVec<Part<'_>, MAX_LIMITS> {
    parts.iter().map(OwnedPart::part).collect()
}

impl Ask for Waiting {
    fn fingerprint(&self, _: &Queues) -> Fingerprint {
        self.key
    }

    /// The order of a queue does not depend on the costs.
    fn cost(&self) -> u64 {
        1
    }

    /// Not known for several limits.
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn hold_ms(&self) -> u64 {
        0
    }

    fn at_once(&self) -> Option<Decision> {
        None
    }

    fn decide(&self) -> BudgetResponse {
        let mut decisions = Decisions::default();
        let pending = self.visit(|parts| match self.room.paused(self.key, &self.time) {
            Some(wait_ms) => {
                decisions.clear(parts.len());
                refuse(&mut decisions, parts, &pause(wait_ms));
                None
            }
            None => decide_into(parts, &mut decisions),
        });
        let (parts, last) = (Arc::clone(&self.parts), Arc::clone(&self.last));
        let conclude = move |decisions: Decisions| {
            let summary = summary(&decisions, &as_parts(&parts));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(decisions);
            summary
        };
        match pending {
            None => BudgetResponse::Ready(Ok(conclude(decisions))),
            Some(pending) => BudgetResponse::Pending(Box::pin(async move { Ok(conclude(pending.await)) })),
        }
    }

    #[cfg(feature = "_redis")]
    fn abandon(&self, pending: PendingDecision, ticket: Arc<Ticket>) {
        let (parts, last) = (Arc::clone(&self.parts), Arc::clone(&self.last));
        settle(&self.carrier, pending, ticket, move |_| async move {
            let Some(decisions) = last.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            for (index, part) in as_parts(&parts).iter().enumerate() {
                if let Some(decision) = decisions.get(index).filter(|decision| decision.is_allowed()) {
                    part.budget.refund(part.ask.key, part.ask.cost, decision);
                }
            }
        });
    }
}

//! One instance: a driver of the store's state machine in virtual time, with its own clock.

use std::collections::HashMap;

use super::super::events::{Action, Answer, Asked, Reaction, Request, RoundTrip, TimerAction, Wake};
use super::super::key_state::KeyState;
use super::super::limit_set::OwnedLimitSet;
use super::super::names::NameSource;
use super::super::params::{StoreContext, StoreParams};
use super::setup::Without;
use crate::engine::Retention;
use crate::geometry::WindowGeometry;
use crate::quota::HardLimitFactor;
use crate::script::{Ask, LeaseId, SyncRequest};

/// The lag of each instance's clock.
pub(super) const LAG_MS: u64 = 8;
/// The step of such a clock: it is late by less than two steps and a millisecond.
const STEP_US: u64 = 3_500;
/// How long a call may take.
pub(super) const DEADLINE_MS: u64 = 50;

/// A clock with a start in the past, a wrong speed, and steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnClock {
    pub(super) offset_us: u64,
    /// The parts per million by which it runs faster.
    pub(super) drift: i64,
}

impl OwnClock {
    /// What the clock shows at an instant, in ms: the time of its last step. The steps are uneven.
    pub(super) fn at(self, us: u64) -> u64 {
        let own = self.offset_us + us.saturating_add_signed(us as i64 * self.drift / 1_000_000);
        let step = |number: u64| number * STEP_US + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % STEP_US;
        let last = own / STEP_US;
        let shown = if step(last) <= own { step(last) } else { step(last.saturating_sub(1)) };
        shown / 1_000
    }

    /// The instant at which the clock certainly shows `ms`.
    pub(super) fn when(self, ms: u64) -> u64 {
        let passed = ((ms + LAG_MS) * 1_000).saturating_sub(self.offset_us);
        (passed as f64 / (1.0 + self.drift as f64 / 1e6)) as u64
    }
}

/// A message to the server.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) question: u64,
    pub(super) request: Option<SyncRequest>,
    pub(super) ask: Option<Ask>,
    pub(super) interval_ms: u32,
    pub(super) limits: OwnedLimitSet,
}

/// A call in flight.
#[derive(Debug)]
struct Open {
    sync: Option<(RoundTrip, SyncRequest)>,
    asked: Asked,
    ask: Option<Ask>,
    began: u64,
    limits: OwnedLimitSet,
}

/// A request that waits for a sync: its arrival, its cost and its limits.
type Waiting = (u64, u64, OwnedLimitSet);

/// The actions that the world must execute.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The units admitted now. The server's own admissions date from its decision.
    pub(super) admitted: u64,
    pub(super) admitted_by_server: u64,
    pub(super) messages: Vec<Message>,
    /// When to process leases or reports, by the clock of the instance.
    pub(super) wakes: Vec<(u64, Option<LeaseId>)>,
}

pub(super) struct Instance {
    pub(super) clock: OwnClock,
    pub(super) params: StoreParams,
    names: NameSource,
    here: Retention,
    pub(super) state: Option<KeyState>,
    open: HashMap<u64, Open>,
    waiting: Vec<Waiting>,
    question: u64,
    latency_ms: u64,
    without: Without,
    /// The number of times that the server reported a loss of the key.
    pub(super) lost: u32,
}

/// A geometry with buckets of 10 ms.
pub(super) fn scale(lag_ms: u64) -> WindowGeometry {
    WindowGeometry::new(10, lag_ms, 60, HardLimitFactor::default()).unwrap()
}

pub(super) fn params(interval_ms: u64) -> StoreParams {
    StoreParams { geometry: scale(LAG_MS), server: scale(0), lag_ms: LAG_MS, interval_ms, deadline_ms: DEADLINE_MS }
}

impl Instance {
    pub(super) fn new(clock: OwnClock, interval_ms: u64, limits: &OwnedLimitSet, nonce: u64, without: Without) -> Self {
        let mut params = params(interval_ms);
        if without == Without::Takeover {
            params.deadline_ms = u64::MAX / 4;
        }
        let here = Retention::new(Retention::WORDS_PER_SPAN);
        let spans: Vec<u32> =
            limits.borrow().limits.iter().map(|limit| params.geometry.with_lag(*limit).span).collect();
        assert!(here.widen(&spans));
        Self {
            clock,
            params,
            names: NameSource::with_nonce(nonce),
            here,
            state: None,
            open: HashMap::new(),
            waiting: Vec::new(),
            question: 0,
            latency_ms: 0,
            without,
            lost: 0,
        }
    }

    /// Crashes, and restarts without any state.
    pub(super) fn crash(&mut self, nonce: u64) {
        self.state = None;
        self.open.clear();
        self.waiting.clear();
        (self.names, self.latency_ms) = (NameSource::with_nonce(nonce), 0);
    }

    /// Returns a forked process: it has the memory of its parent, and no calls in flight.
    pub(super) fn fork(&self) -> Self {
        let names = if self.without == Without::NewName { self.names.twin() } else { self.names.in_fork() };
        let here = Retention::new(Retention::WORDS_PER_SPAN);
        let (spans, count) = self.here.spans();
        assert!(here.widen(&spans[..count]));
        Self {
            clock: self.clock,
            params: self.params,
            names,
            here,
            state: self.state.clone(),
            open: HashMap::new(),
            waiting: Vec::new(),
            question: self.question,
            latency_ms: self.latency_ms,
            without: self.without,
            lost: 0,
        }
    }

    /// The units that can be spent without a call.
    pub(super) fn left(&self, us: u64) -> u64 {
        self.state.as_ref().map_or(0, |state| state.left(self.clock.at(us)))
    }

    fn interval_ms(&self) -> u32 {
        self.params.interval_ms.max(2 * self.latency_ms) as u32
    }

    pub(super) fn arrive(&mut self, us: u64, cost: u64, limits: &OwnedLimitSet) -> Effects {
        let mut effects = Effects::default();
        self.request(us, cost, limits, None, &mut effects);
        effects
    }

    /// One request, which has waited for a sync since an instant, or has not waited.
    fn request(
        &mut self,
        us: u64,
        cost: u64,
        limits: &OwnedLimitSet,
        waited_since: Option<u64>,
        effects: &mut Effects,
    ) {
        let (now, params) = (self.clock.at(us), self.params);
        let request = Request { cost, limits: limits.borrow(), is_retry: waited_since.is_some() };
        let state = self.state.get_or_insert_with(|| KeyState::new(b"key".as_slice().into(), now, &params.geometry));
        let ask = Some(Ask { cost, random: 0 });
        match state.handle_request(now, &request, &params) {
            Action::Decided(decision) => effects.admitted += if decision.is_allowed() { cost } else { 0 },
            Action::DecidedLow(_, id) => {
                effects.admitted += cost;
                effects.wakes.push((now, Some(id)));
            }
            Action::Sync => self.sync(now, true, ask, limits, effects),
            Action::Wait(_) if waited_since.is_none() => self.waiting.push((now, cost, limits.clone())),
            Action::Wait(_) | Action::AskAlone => {
                let asked = Asked { sent: now, changes: state.changes(), is_alone: true };
                self.send(Open { sync: None, asked, ask, began: now, limits: limits.clone() }, effects);
            }
        }
    }

    fn sync(&mut self, now: u64, wants: bool, ask: Option<Ask>, limits: &OwnedLimitSet, effects: &mut Effects) {
        let Some(state) = &mut self.state else { return };
        let (trip, request) = state.start_sync(
            now,
            wants,
            StoreContext { names: &self.names, retention: &self.here, params: &self.params },
        );
        let sync = Some((trip, request));
        self.send(Open { sync, asked: trip.asked, ask, began: now, limits: limits.clone() }, effects);
    }

    fn send(&mut self, open: Open, effects: &mut Effects) {
        self.question += 1;
        effects.messages.push(Message {
            question: self.question,
            request: open.sync.as_ref().map(|(_, request)| request.clone()),
            ask: open.ask,
            interval_ms: self.interval_ms(),
            limits: open.limits.clone(),
        });
        self.open.insert(self.question, open);
    }

    /// The requests that waited for a sync try again.
    fn retry(&mut self, us: u64, effects: &mut Effects) {
        let now = self.clock.at(us);
        for (since, cost, limits) in std::mem::take(&mut self.waiting) {
            if now < since + DEADLINE_MS {
                self.request(us, cost, &limits, Some(since), effects);
            }
        }
    }

    /// Processes a lease or reports at their due time.
    pub(super) fn wake(&mut self, us: u64, id: Option<LeaseId>, limits: &OwnedLimitSet) -> Effects {
        let (now, mut effects) = (self.clock.at(us), Effects::default());
        let Some(state) = &mut self.state else { return effects };
        let action = match id {
            Some(id) => state.handle_timeout(now, id, &self.params),
            None => state.handle_retry(),
        };
        match action {
            TimerAction::Nothing => {}
            TimerAction::Later(at) => effects.wakes.push((at, id)),
            TimerAction::Sync { wants } => self.sync(now, wants, None, limits, &mut effects),
        }
        effects
    }

    /// Returns the held units.
    pub(super) fn give_back(&mut self, us: u64, limits: &OwnedLimitSet) -> Effects {
        let (now, mut effects) = (self.clock.at(us), Effects::default());
        if self.state.as_ref().is_some_and(KeyState::can_return) {
            self.sync(now, false, None, limits, &mut effects);
        }
        effects
    }

    /// Handles a reply that did not arrive in time.
    pub(super) fn lose(&mut self, us: u64, question: u64) -> Effects {
        let (now, mut effects) = (self.clock.at(us), Effects::default());
        let Some(open) = self.open.remove(&question) else { return effects };
        if let (Some((trip, _)), Some(state)) = (&open.sync, &mut self.state) {
            state.abandon(now, trip);
            if self.without == Without::KeptReports {
                state.forget_reports();
            }
            if state.needs_retry() {
                effects.wakes.push((now + 200, None));
            }
            self.retry(us, &mut effects);
        }
        effects
    }

    pub(super) fn land(&mut self, us: u64, question: u64, answer: &Answer) -> Effects {
        let (now, params, mut effects) = (self.clock.at(us), self.params, Effects::default());
        let Some(open) = self.open.remove(&question) else { return effects };
        let Some(state) = &mut self.state else { return effects };
        let limits = &open.limits;
        match open.sync {
            Some((trip, request)) => {
                match state.handle_reply(
                    now,
                    &trip,
                    &request,
                    answer,
                    limits,
                    StoreContext { names: &self.names, retention: &self.here, params: &params },
                ) {
                    // As in the store, a resubmission must go out within the deadline of the whole sync.
                    Reaction::Resubmit { .. } if now >= open.began + DEADLINE_MS => state.abandon(now, &trip),
                    Reaction::Resubmit { request, .. } => {
                        self.lost += 1;
                        let asked = Asked { sent: now, ..trip.asked };
                        let sync = Some((RoundTrip { asked, ..trip }, request));
                        let (ask, began, limits) = (open.ask, open.began, limits.clone());
                        self.send(Open { sync, asked, ask, began, limits }, &mut effects);
                    }
                    Reaction::Done { decision, wake } => {
                        effects.admitted_by_server = decision.map_or(0, |decision| decision.charge.units());
                        effects.wakes.extend(wake.map(|Wake { at, id }| (at, Some(id))));
                        if open.ask.is_none() {
                            self.latency_ms = (3 * self.latency_ms + (now - open.began).min(DEADLINE_MS)) / 4;
                        }
                        self.retry(us, &mut effects);
                    }
                    Reaction::Stale => {}
                }
            }
            None => {
                let Some((ask, outcome)) = &answer.outcome else { return effects };
                let decision = params.server.decision(outcome, ask.cost, &limits.scaled, answer.now_ms);
                let decision = limits.unscale(decision);
                effects.admitted_by_server = decision.charge.units();
                state.record_outcome(
                    now,
                    &open.asked,
                    ask.cost,
                    decision,
                    &limits.borrow(),
                    StoreContext { names: &self.names, retention: &self.here, params: &params },
                );
            }
        }
        effects
    }

    /// Forgets the key, if it is idle.
    pub(super) fn sweep(&mut self, us: u64) {
        let now = self.clock.at(us);
        if self.state.as_ref().is_some_and(|state| state.is_idle(now, &self.here, &self.params)) {
            self.state = None;
        }
    }

    /// Returns a unique name with this number of random bits.
    pub(super) fn name(bits: u32) -> u64 {
        fastrand::u64(1..) >> (64 - bits)
    }
}

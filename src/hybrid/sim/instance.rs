//! One instance: what the store does around a purse, with a clock of its own.

use std::collections::HashMap;

use super::super::lease;
use super::super::purse::{Due, Given, Purse, Step, Terms, Trip};
use super::super::settling::{OwnRules, full};
use crate::engine::{Horizon, Outcome};
use crate::quota::HardLimitFactor;
use crate::redis::script::{Ask, Lent, Part};
use crate::scale::Scale;

/// The lag of each instance's clock.
pub(super) const LAG_MS: u64 = 8;
/// How often such a clock moves: it is late by less than two steps and a millisecond.
const STEP_US: u64 = 3_500;
/// How long a question may be under way.
pub(super) const DEADLINE_MS: u64 = 50;

/// A clock that started some time ago, runs too fast or too slow, and moves in steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnClock {
    pub(super) offset_us: u64,
    /// Parts of a million by which it runs faster.
    pub(super) drift: i64,
}

impl OwnClock {
    /// What it shows at an instant, in ms: the time of its last step, and those do not come evenly.
    pub(super) fn at(self, us: u64) -> u64 {
        let own = self.offset_us + us.saturating_add_signed(us as i64 / 1_000 * self.drift / 1_000);
        let step = |number: u64| number * STEP_US + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % STEP_US;
        let last = own / STEP_US;
        let shown = if step(last) <= own { step(last) } else { step(last.saturating_sub(1)) };
        shown / 1_000
    }

    /// When it surely shows so much.
    pub(super) fn when(self, ms: u64) -> u64 {
        let passed = ((ms + LAG_MS) * 1_000).saturating_sub(self.offset_us);
        (passed as f64 / (1.0 + self.drift as f64 / 1e6)) as u64
    }
}

/// What goes to the server.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) question: u64,
    pub(super) part: Option<Part>,
    pub(super) ask: Option<Ask>,
    pub(super) interval_ms: u32,
    pub(super) rules: OwnRules,
}

/// What comes back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) question: u64,
    pub(super) now_ms: u64,
    /// When it was decided, in truth.
    pub(super) at_us: u64,
    pub(super) outcome: Option<Outcome>,
    pub(super) lent: Option<Lent>,
}

/// A question under way.
#[derive(Debug)]
struct Open {
    part: Option<Part>,
    ask: Option<Ask>,
    sent: u64,
    began: u64,
    rules: OwnRules,
}

/// What becomes of a request, at once or later.
#[derive(Debug)]
pub(super) enum Arrival {
    Admitted,
    Refused,
    Asks(Message),
}

/// What an answer brings.
#[derive(Debug, Default)]
pub(super) struct Landed {
    /// Whether a request was waiting for it, and whether it is admitted.
    pub(super) is_admitted: Option<bool>,
    pub(super) given: Option<Given>,
    /// The question that has to be asked now.
    pub(super) again: Option<Message>,
}

pub(super) struct Instance {
    pub(super) clock: OwnClock,
    pub(super) terms: Terms,
    here: Horizon,
    /// Of the server.
    scale: Scale,
    pub(super) purse: Option<Purse>,
    open: HashMap<u64, Open>,
    counter: u32,
    latency_ms: u64,
    /// How often it was told that its key is lost.
    pub(super) lost: u32,
}

/// A scale of 10 ms buckets.
pub(super) fn scale(lag_ms: u64) -> Scale {
    Scale::new(10, lag_ms, 60, HardLimitFactor::default()).unwrap()
}

impl Instance {
    pub(super) fn new(clock: OwnClock, interval_ms: u64, rules: &OwnRules, nonce: u64) -> Self {
        let terms = Terms { scale: scale(LAG_MS), lag_ms: LAG_MS, interval_ms, deadline_ms: DEADLINE_MS, nonce };
        let here = Horizon::new(Horizon::WORDS_PER_SPAN);
        let spans: Vec<u32> = rules.borrow().limits.iter().map(|limit| terms.scale.with_lag(*limit).span).collect();
        assert!(here.widen(&spans));
        let (open, scale) = (HashMap::new(), scale(0));
        Self { clock, terms, here, scale, purse: None, open, counter: 0, latency_ms: 0, lost: 0 }
    }

    /// Dies, and comes back knowing nothing.
    pub(super) fn crash(&mut self, nonce: u64) {
        self.purse = None;
        self.open.clear();
        (self.counter, self.latency_ms) = (0, 0);
        self.terms.nonce = nonce;
    }

    fn interval_ms(&self) -> u32 {
        self.terms.interval_ms.max(2 * self.latency_ms) as u32
    }

    pub(super) fn arrive(&mut self, us: u64, question: u64, cost: u64, rules: &OwnRules) -> Arrival {
        let (now, terms) = (self.clock.at(us), self.terms);
        let purse = self.purse.get_or_insert_with(|| Purse::new(b"key".as_slice().into(), now, &terms.scale));
        let part = match purse.spend(now, cost, &rules.borrow(), &terms) {
            // Here a lease that runs low is renewed in its time, or when it is spent.
            Step::Low(..) => return Arrival::Admitted,
            Step::Decided(decision) if decision.is_allowed() => return Arrival::Admitted,
            Step::Decided(_) => return Arrival::Refused,
            Step::Settle if !purse.is_settling() => {
                self.counter += 1;
                Some(purse.begin(now, self.counter - 1, true, &self.here, &terms))
            }
            _ => None,
        };
        Arrival::Asks(self.send(now, now, question, part, Some(Ask { cost, random: 0 }), rules))
    }

    fn send(
        &mut self,
        now: u64,
        began: u64,
        question: u64,
        part: Option<Part>,
        ask: Option<Ask>,
        rules: &OwnRules,
    ) -> Message {
        let (rules, interval_ms) = (rules.clone(), self.interval_ms());
        self.open.insert(question, Open { part: part.clone(), ask, sent: now, began, rules: rules.clone() });
        Message { question, part, ask, interval_ms, rules }
    }

    /// Looks at a lease: sends what is to be reported, or says when to look again.
    pub(super) fn look_at(
        &mut self,
        us: u64,
        question: u64,
        counter: u32,
        rules: &OwnRules,
    ) -> Result<Option<Message>, u64> {
        let (now, terms) = (self.clock.at(us), self.terms);
        let Some(purse) = &mut self.purse else { return Ok(None) };
        let wants = match purse.due(now, counter, &terms) {
            Due::Nothing => return Ok(None),
            Due::Later(at) => return Err(at),
            due => due == Due::Renew,
        };
        self.counter += 1;
        let part = purse.begin(now, self.counter - 1, wants, &self.here, &terms);
        Ok(Some(self.send(now, now, question, Some(part), None, rules)))
    }

    /// Gives back what is held.
    pub(super) fn give_back(&mut self, us: u64, question: u64, rules: &OwnRules) -> Option<Message> {
        let (now, terms) = (self.clock.at(us), self.terms);
        let purse = self.purse.as_mut().filter(|purse| purse.can_return())?;
        self.counter += 1;
        let part = purse.begin(now, self.counter - 1, false, &self.here, &terms);
        Some(self.send(now, now, question, Some(part), None, rules))
    }

    /// No answer came in time; whether a request was waiting for it.
    pub(super) fn lose(&mut self, question: u64) -> bool {
        let Some(open) = self.open.remove(&question) else { return false };
        if open.part.is_some()
            && let Some(purse) = &mut self.purse
        {
            purse.lose();
        }
        open.ask.is_some()
    }

    pub(super) fn land(&mut self, us: u64, answer: &Answer, next_question: u64) -> Landed {
        let Some(open) = self.open.remove(&answer.question) else { return Landed::default() };
        let (now, rules) = (self.clock.at(us), open.rules.borrow());
        let (Some(purse), terms) = (&mut self.purse, self.terms) else { return Landed::default() };
        if let (Some(part), Some(lent)) = (&open.part, &answer.lent)
            && lent.is_lost
        {
            self.lost += 1;
            let part = purse.restore(now, part, &self.here, &terms);
            let again = self.send(now, open.began, next_question, Some(part), open.ask, &open.rules);
            return Landed { again: Some(again), ..Landed::default() };
        }
        let told = |outcome: &Outcome, ask: Ask| {
            open.rules.told(self.scale.decision(outcome, ask.cost, &open.rules.scaled, answer.now_ms))
        };
        let decision = answer.outcome.as_ref().zip(open.ask).map(|(outcome, ask)| told(outcome, ask));
        let mut given = None;
        if let (Some(part), Some(lent)) = (&open.part, &answer.lent) {
            given = purse.finish(Trip { sent: open.sent, now, changes: 0 }, part.id.counter, lent, &rules, &terms);
            if open.ask.is_none() {
                self.latency_ms = (3 * self.latency_ms + (now - open.began)) / 4;
            }
        }
        if let (Some(decision), Some(ask)) = (decision, open.ask) {
            purse.remember(Trip { sent: open.sent, now, changes: 0 }, ask.cost, decision, &rules, &self.here, &terms);
        }
        if let Some(lent) = &answer.lent
            && let Some(full) = full(lent, answer.now_ms, &self.scale, &open.rules)
            && open.ask.is_none_or(|ask| ask.cost <= 1)
        {
            purse.refuse(Trip { sent: open.sent, now, changes: 0 }, 1, full, &rules, &terms);
        }
        Landed { is_admitted: decision.map(|decision| decision.is_allowed()), given, again: None }
    }

    /// Forgets the key, if it is idle.
    pub(super) fn sweep(&mut self, us: u64) {
        let now = self.clock.at(us);
        if self.purse.as_ref().is_some_and(|purse| purse.is_idle(now, &self.here, &self.terms)) {
            self.purse = None;
        }
    }

    /// A name that nobody else has, of so many random bits.
    pub(super) fn name(bits: u32) -> u64 {
        lease::nonce() >> (64 - bits)
    }
}

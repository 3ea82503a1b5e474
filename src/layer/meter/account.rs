//! The units of one response under one limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::at_limit::AtLimit;
use super::metering::{MeteredLimit, Metering};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::layer::background::in_background;
use crate::store::{BudgetHold, BudgetRequest, BudgetResponse, Hold, Sleep, clock, hold};
use crate::telemetry::LimitWatch;
use crate::time::{TimeSource, millis};

/// How long the cost of the request stays reserved for its response. Later frames ask the limit.
const RESERVED: Duration = Duration::from_secs(60);

/// The parts of a limit, of which a piece of a frame is at most one.
const PIECES: u64 = 16;

/// The units of one response under one limit.
pub(super) struct Account {
    limit: MeteredLimit,
    reserved: Reserved,
    /// The units of the current frame that are not paid.
    owed: u64,
    /// A decision on so many of them that needs I/O.
    asking: Option<(u64, PendingDecision)>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The units that were charged although they did not fit.
    over: u64,
}

type PendingDecision = Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>;

/// The cost of the request.
enum Reserved {
    /// Charged by the decision on the request.
    Charged,
    Beginning(BudgetHold),
    Held(Box<dyn Hold>),
    Nothing,
}

/// Whether a frame is paid.
pub(super) enum Paid {
    All,
    /// So many units of it. The rest must be paid before the next frame.
    Part(u64),
    /// The response must end.
    Nothing,
}

/// The answer of a limit.
enum Answer {
    Paid(Paid),
    /// Ask for fewer units.
    Fewer(u64),
    Again,
}

impl Account {
    pub(super) fn new(limit: MeteredLimit) -> Self {
        Self { limit, reserved: Reserved::Charged, owed: 0, asking: None, pause: None, over: 0 }
    }

    pub(super) fn metering(&self) -> &Metering {
        &self.limit.metering
    }

    pub(super) fn watch(&self) -> &LimitWatch {
        &self.limit.watch
    }

    /// Sets the units of the next frame.
    pub(super) fn owe(&mut self, units: u64) {
        self.owed = units;
    }

    /// Pays the units of the current frame.
    #[inline]
    pub(super) fn poll_pay(&mut self, may_split: bool, cx: &mut Context<'_>) -> Poll<Paid> {
        if self.asking.is_none()
            && let Reserved::Held(hold) = &mut self.reserved
            && hold.spend(self.owed)
        {
            self.owed = 0;
        }
        if self.owed == 0 { Poll::Ready(Paid::All) } else { self.poll_ask(may_split, cx) }
    }

    /// Spends the rest of the reservation, and asks the limit for the other units.
    fn poll_ask(&mut self, may_split: bool, cx: &mut Context<'_>) -> Poll<Paid> {
        let mut most = if may_split { (self.limit.capacity / PIECES).max(1) } else { u64::MAX };
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if self.asking.is_none() {
                ready!(self.poll_reserved(cx));
                if self.held() == self.owed {
                    match self.spend(self.owed) {
                        true => return Poll::Ready(self.paid(self.owed)),
                        false => continue,
                    }
                }
            }
            let wanted = (self.owed - self.held()).min(most);
            let (wanted, result) = ready!(self.poll_decision(wanted, cx));
            match self.judge(wanted, result.as_ref().ok(), may_split) {
                Answer::Paid(paid) => return Poll::Ready(paid),
                Answer::Fewer(units) => most = units,
                Answer::Again => {}
            }
        }
    }

    /// Acts on a decision on so many of the owed units. Without one, the store failed.
    fn judge(&mut self, wanted: u64, decision: Option<&Decision>, may_split: bool) -> Answer {
        let decision = match decision {
            Some(decision) => decision,
            None if self.limit.admits_on_error => return Answer::Paid(self.paid(self.owed)),
            None => return Answer::Paid(Paid::Nothing),
        };
        if decision.is_allowed() {
            return self.pay_rest(wanted, may_split);
        }
        if !self.limit.is_enforced {
            return Answer::Paid(self.paid(self.owed));
        }
        let (held, fits) = (self.held(), decision.remaining().min(wanted - 1));
        if may_split && held > 0 && self.spend(held) {
            return Answer::Paid(self.paid(held));
        }
        if may_split && fits > 0 {
            return Answer::Fewer(fits);
        }
        match &self.limit.metering.at_limit {
            AtLimit::Slow if !decision.never_fits() => {
                let wait = decision.retry_after().unwrap_or_default();
                self.pause = Some(Box::pin(self.pause_for(wait)));
                Answer::Again
            }
            AtLimit::Finish { at_most } if self.over.saturating_add(wanted) <= *at_most => {
                self.over += wanted;
                let recorded = self.limit.frames.record(&self.limit.key, wanted);
                in_background(async move { drop(recorded.await) });
                self.pay_rest(wanted, may_split)
            }
            _ => Answer::Paid(Paid::Nothing),
        }
    }

    /// Adds the units of the reservation to those that the limit has charged.
    fn pay_rest(&mut self, charged: u64, may_split: bool) -> Answer {
        let held = self.held().min(self.owed - charged);
        if self.spend(held) && (may_split || charged + held == self.owed) {
            return Answer::Paid(self.paid(charged + held));
        }
        // The time of the reservation is over.
        self.owed -= charged;
        Answer::Again
    }

    fn paid(&mut self, units: u64) -> Paid {
        self.owed -= units;
        if self.owed == 0 { Paid::All } else { Paid::Part(units) }
    }

    /// The owed units that the reservation can pay.
    fn held(&self) -> u64 {
        match &self.reserved {
            Reserved::Held(hold) => hold.left().min(self.owed),
            _ => 0,
        }
    }

    /// Spends units of the reservation. If it cannot, there is none any more.
    fn spend(&mut self, units: u64) -> bool {
        let is_spent = match &mut self.reserved {
            Reserved::Held(hold) => hold.spend(units),
            _ => false,
        };
        if !is_spent && units > 0 {
            self.reserved = Reserved::Nothing;
        }
        is_spent || units == 0
    }

    /// Turns the charge of the request into a reservation, when the first frame needs it.
    fn poll_reserved(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.reserved, Reserved::Charged) {
            self.reserved = match self.limit.charge.take() {
                Some((decision, units)) if units > 0 => {
                    let (budget, key) = (Arc::clone(&self.limit.budget), self.limit.key.clone());
                    Reserved::Beginning(Box::pin(async move { hold(&budget, &key, units, &decision, RESERVED).await }))
                }
                _ => Reserved::Nothing,
            };
        }
        if let Reserved::Beginning(beginning) = &mut self.reserved {
            self.reserved = match ready!(beginning.as_mut().poll(cx)) {
                Ok(hold) => Reserved::Held(hold),
                Err(_) => Reserved::Nothing,
            };
        }
        Poll::Ready(())
    }

    /// Decides on units; returns for how many, because an earlier question may be under way.
    fn poll_decision(&mut self, units: u64, cx: &mut Context<'_>) -> Poll<(u64, Result<Decision, StoreError>)> {
        if self.asking.is_none() {
            match self.limit.frames.decide(BudgetRequest::new(&self.limit.key, units)) {
                BudgetResponse::Ready(result) => return Poll::Ready((units, result)),
                BudgetResponse::Pending(pending) => self.asking = Some((units, pending)),
            }
        }
        let Some((units, pending)) = &mut self.asking else { return Poll::Pending };
        let (units, result) = (*units, ready!(pending.as_mut().poll(cx)));
        self.asking = None;
        Poll::Ready((units, result))
    }

    fn pause_for(&self, wait: Duration) -> Sleep {
        let time = clock(&self.limit.frames).unwrap_or_else(TimeSource::system);
        Sleep::until(&time, time.now_ms().saturating_add(millis(wait).max(1)))
    }
}

impl Drop for Account {
    /// Returns what no frame needs any more.
    fn drop(&mut self) {
        if let Some((decision, units)) = self.limit.charge.take() {
            self.limit.budget.refund(&self.limit.key, units, &decision);
        }
        if let Some((units, pending)) = self.asking.take() {
            let (budget, key) = (Arc::clone(&self.limit.frames), self.limit.key.clone());
            in_background(async move {
                if let Ok(decision) = pending.await
                    && decision.is_allowed()
                {
                    budget.refund(&key, units, &decision);
                }
            });
        }
    }
}

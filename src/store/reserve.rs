//! A decision on several budgets, one after the other: each is charged, and all are refunded if one refuses.
//!
//! While it runs, the charges of a request that is refused later count for other requests: at most one request's cost
//! for each decision in flight, for as long as that decision takes.

use std::sync::Arc;

use super::budget::{Budget, BudgetRequest, BudgetResponse};
use super::part::{Decisions, Part, PendingDecisions};
use crate::decision::Decision;
use crate::error::StoreError;

/// Decides on the parts in their order. After a refusal, it looks at the rest without a charge, so that the request's
/// wait is the longest of all.
pub(super) fn reserve(parts: &[Part<'_>], decisions: &mut Decisions) -> Option<PendingDecisions> {
    for (index, part) in parts.iter().enumerate() {
        match ask(&**part.budget, part.ask, decisions) {
            BudgetResponse::Ready(result) => record(decisions, index, part, result),
            BudgetResponse::Pending(pending) => {
                let mut reservation = Reservation::new(parts, std::mem::take(decisions));
                return Some(Box::pin(async move {
                    reservation.record(index, pending.await);
                    for index in index + 1..reservation.parts.len() {
                        let result = match reservation.ask(index) {
                            BudgetResponse::Ready(result) => result,
                            BudgetResponse::Pending(pending) => pending.await,
                        };
                        reservation.record(index, result);
                    }
                    reservation.finish()
                }));
            }
        }
    }
    if !decisions.is_allowed() {
        for (index, part) in parts.iter().enumerate() {
            release(decisions, index, part);
        }
    }
    None
}

fn ask(budget: &dyn Budget, ask: BudgetRequest<'_>, decisions: &Decisions) -> BudgetResponse {
    if decisions.is_allowed() { budget.decide(ask) } else { budget.peek(ask) }
}

fn record(decisions: &mut Decisions, index: usize, part: &Part<'_>, result: Result<Decision, StoreError>) {
    match result {
        Ok(decision) => decisions.record(index, part.is_enforced, decision),
        Err(_) => decisions.record_failure(part.needs_store()),
    }
}

/// Refunds a part of a refused request.
fn release(decisions: &mut Decisions, index: usize, part: &Part<'_>) {
    if let Some(decision) = decisions.get(index).filter(|decision| decision.is_allowed()) {
        part.budget.refund(part.ask.key, part.ask.cost, decision);
        decisions.uncharge(index, part.ask.cost);
    }
}

/// The charges of a request that waits for a decision. Dropping it refunds them.
struct Reservation {
    parts: Box<[OwnedPart]>,
    decisions: Decisions,
    is_open: bool,
}

struct OwnedPart {
    budget: Arc<dyn Budget>,
    key: Box<[u8]>,
    cost: u64,
    is_enforced: bool,
    admits_on_error: bool,
}

impl OwnedPart {
    fn of(part: &Part<'_>) -> Self {
        let Part { budget, ask, is_enforced, admits_on_error } = *part;
        Self { budget: Arc::clone(budget), key: ask.key.into(), cost: ask.cost, is_enforced, admits_on_error }
    }

    fn part(&self) -> Part<'_> {
        let Self { budget, key, cost, is_enforced, admits_on_error } = self;
        let ask = BudgetRequest::new(key, *cost);
        Part { budget, ask, is_enforced: *is_enforced, admits_on_error: *admits_on_error }
    }
}

impl Reservation {
    fn new(parts: &[Part<'_>], decisions: Decisions) -> Self {
        Self { parts: parts.iter().map(OwnedPart::of).collect(), decisions, is_open: true }
    }

    fn ask(&self, index: usize) -> BudgetResponse {
        let part = self.parts[index].part();
        ask(&**part.budget, part.ask, &self.decisions)
    }

    fn record(&mut self, index: usize, result: Result<Decision, StoreError>) {
        record(&mut self.decisions, index, &self.parts[index].part(), result);
    }

    fn finish(mut self) -> Decisions {
        if !self.decisions.is_allowed() {
            self.release();
        }
        self.is_open = false;
        std::mem::take(&mut self.decisions)
    }

    fn release(&mut self) {
        for (index, part) in self.parts.iter().enumerate() {
            release(&mut self.decisions, index, &part.part());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            self.release();
        }
    }
}

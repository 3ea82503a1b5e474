//! A decision on several budgets, one after the other: each is charged, and all are refunded if one refuses.
//!
//! While it runs, the charges of a request that is refused later count for other requests: at most one request's cost
//! for each decision in flight, for as long as that decision takes.
//!
//! A part that is decided at once is not held while another one needs I/O: it is refunded first, and decided again
//! afterwards. So no charge in this process waits for a server, and no lease is renewed between its charge and its
//! refund.

use std::pin::Pin;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::budget::{Budget, BudgetRequest, BudgetResponse};
use super::part::{Decisions, MAX_LIMITS, Part, PendingDecisions};
use crate::decision::Decision;
use crate::error::StoreError;

/// Decides on the parts in their order. After a refusal, it looks at the rest without a charge, so that the request's
/// wait is the longest of all. There are at most [`MAX_LIMITS`] parts.
pub(super) fn reserve(parts: &[Part<'_>], decisions: &mut Decisions) -> Option<PendingDecisions> {
    let mut charges = Charges::default();
    let (index, pending) = decide_at_once(parts, decisions, &mut charges)?;
    let parts = parts.iter().map(OwnedPart::of).collect();
    let reservation = Reservation { parts, decisions: std::mem::take(decisions), charges };
    Some(Box::pin(reservation.complete(index, pending)))
}

/// The decision of one part, after I/O.
type Undecided = Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>;

/// The state of each part, one bit for each.
#[derive(Default)]
struct Charges {
    decided: u8,
    /// Decided after I/O, so that the decision stands.
    held: u8,
    /// Charged and not refunded.
    charged: u8,
}

/// Decides on the parts that are not decided. Returns the first one that needs I/O.
fn decide_at_once(parts: &[Part<'_>], decisions: &mut Decisions, charges: &mut Charges) -> Option<(usize, Undecided)> {
    for (index, part) in parts.iter().enumerate() {
        if charges.decided & (1 << index) > 0 {
            continue;
        }
        let is_charge = decisions.is_allowed();
        let response = if is_charge { part.budget.decide(part.ask) } else { part.budget.peek(part.ask) };
        match response {
            BudgetResponse::Ready(result) => record(parts, decisions, charges, (index, is_charge), &result),
            BudgetResponse::Pending(pending) => {
                // A refusal stands, and the charges before it are refunded already.
                if is_charge {
                    let again = charges.decided & !charges.held;
                    release(parts, decisions, charges, again);
                    charges.decided &= !again;
                }
                return Some((index, pending));
            }
        }
    }
    None
}

/// Records the decision on a part. If it refuses the request, all charges are refunded.
fn record(
    parts: &[Part<'_>],
    decisions: &mut Decisions,
    charges: &mut Charges,
    (index, is_charge): (usize, bool),
    result: &Result<Decision, StoreError>,
) {
    charges.decided |= 1 << index;
    match result {
        Ok(decision) => {
            charges.charged |= u8::from(is_charge && decision.is_allowed()) << index;
            decisions.record(index, parts[index].is_enforced, *decision);
        }
        Err(_) => decisions.record_failure(parts[index].needs_store()),
    }
    if !decisions.is_allowed() {
        release(parts, decisions, charges, u8::MAX);
    }
}

/// Refunds the charges of the parts in a set.
fn release(parts: &[Part<'_>], decisions: &mut Decisions, charges: &mut Charges, set: u8) {
    for (index, part) in parts.iter().enumerate().filter(|(index, _)| charges.charged & set & (1 << index) > 0) {
        if let Some(decision) = decisions.get(index) {
            part.budget.refund(part.ask.key, part.ask.cost, decision);
            decisions.uncharge(index, part.ask.cost);
        }
    }
    charges.charged &= !set;
}

/// A request that waits for a decision. Dropping it refunds its charges.
struct Reservation {
    parts: Box<[OwnedPart]>,
    decisions: Decisions,
    charges: Charges,
}

/// A [`Part`] that owns what it refers to.
pub(super) struct OwnedPart {
    budget: Arc<dyn Budget>,
    key: Box<[u8]>,
    cost: u64,
    is_enforced: bool,
    admits_on_error: bool,
}

impl OwnedPart {
    pub(super) fn of(part: &Part<'_>) -> Self {
        let Part { budget, ask, is_enforced, admits_on_error } = *part;
        Self { budget: Arc::clone(budget), key: ask.key.into(), cost: ask.cost, is_enforced, admits_on_error }
    }

    pub(super) fn part(&self) -> Part<'_> {
        let Self { budget, key, cost, is_enforced, admits_on_error } = self;
        let ask = BudgetRequest::new(key, *cost);
        Part { budget, ask, is_enforced: *is_enforced, admits_on_error: *admits_on_error }
    }
}

impl Reservation {
    /// Waits for the decision on one part, and decides on the others. Each wait decides one part for good.
    async fn complete(mut self, mut index: usize, mut pending: Undecided) -> Decisions {
        loop {
            let is_charge = self.decisions.is_allowed();
            let result = pending.await;
            self.charges.held |= 1 << index;
            self.visit(|parts, decisions, charges| record(parts, decisions, charges, (index, is_charge), &result));
            match self.visit(decide_at_once) {
                Some(next) => (index, pending) = next,
                None => break,
            }
        }
        self.charges = Charges::default();
        std::mem::take(&mut self.decisions)
    }

    fn visit<R>(&mut self, visit: impl FnOnce(&[Part<'_>], &mut Decisions, &mut Charges) -> R) -> R {
        let parts: ArrayVec<Part<'_>, MAX_LIMITS> = self.parts.iter().map(OwnedPart::part).collect();
        visit(&parts, &mut self.decisions, &mut self.charges)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.visit(|parts, decisions, charges| release(parts, decisions, charges, u8::MAX));
    }
}

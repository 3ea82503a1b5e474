//! A decision on several budgets of local stores in one step.

use arrayvec::ArrayVec;

use super::local_store::LocalBudget;
use crate::keyspace::{self, Step};
use crate::store::part::{Decisions, MAX_LIMITS, Part};

/// Returns false and does nothing if a part belongs to another store, or two parts use one table.
pub(crate) fn decide_together(parts: &[Part<'_>], decisions: &mut Decisions) -> bool {
    let mut budgets = ArrayVec::<(&LocalBudget, u64), MAX_LIMITS>::new();
    let mut steps = ArrayVec::<Step<'_>, MAX_LIMITS>::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(budget) = part.budget.as_any().and_then(|budget| budget.downcast_ref::<LocalBudget>()) else {
            return false;
        };
        // Limits usually share a clock, and one read is enough for all of them.
        let now_ms = match budgets.first() {
            Some((first, now_ms)) if budget.shares_clock(first) => *now_ms,
            _ => budget.now_ms(),
        };
        budgets.push((budget, now_ms));
        let mut step = budget.step(part.ask.key, now_ms);
        (step.cost, step.is_enforced, step.index) = (part.ask.cost, part.is_enforced, index);
        steps.push(step);
    }
    let Some(is_admitted) = keyspace::decide_together(&mut steps) else { return false };
    for step in &steps {
        let charged = if is_admitted { step.cost } else { 0 };
        if let (Some((outcome, place)), (budget, now_ms)) = (&step.outcome, budgets[step.index]) {
            decisions.record(step.index, step.is_enforced, budget.decision(outcome, *place, charged, now_ms));
        }
    }
    true
}

//! A decision on several budgets of local stores in one step.

use arrayvec::ArrayVec;

use super::local_store::LocalBudget;
use crate::keyspace::{self, Step};
use crate::store::part::{Decisions, MAX_LIMITS, Part};

/// Returns `None` if a part belongs to another store, or two parts use one table.
pub(crate) fn decide_together(parts: &[Part<'_>]) -> Option<Decisions> {
    let mut budgets = ArrayVec::<&LocalBudget, MAX_LIMITS>::new();
    for part in parts {
        budgets.try_push(part.budget.as_any()?.downcast_ref()?).ok()?;
    }
    let mut times = ArrayVec::<u64, MAX_LIMITS>::new();
    let mut steps = ArrayVec::<Step<'_>, MAX_LIMITS>::new();
    for (index, (part, budget)) in parts.iter().zip(&budgets).enumerate() {
        // Limits usually share a clock, and one read is enough for all of them.
        let now_ms = match index {
            0 => budget.now_ms(),
            _ if budget.shares_clock(budgets[0]) => times[0],
            _ => budget.now_ms(),
        };
        times.push(now_ms);
        let mut step = budget.step(part.ask.key, now_ms);
        (step.cost, step.is_enforced, step.index) = (part.ask.cost, part.is_enforced, index);
        steps.push(step);
    }
    let is_admitted = keyspace::decide_together(&mut steps)?;
    let mut decisions = Decisions::default();
    for step in &steps {
        let charged = if is_admitted { step.cost } else { 0 };
        if let Some((outcome, place)) = step.outcome {
            let decision = budgets[step.index].decision(&outcome, place, charged, times[step.index]);
            decisions.record(step.index, step.is_enforced, decision);
        }
    }
    Some(decisions)
}

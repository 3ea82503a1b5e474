//! A decision on the windows of several tables in one step.
//!
//! The locks of all windows are held at once, from the first look to the last charge. So no other request sees a charge
//! that is taken back, and none is refused because of one. Every caller locks the tables in the order of their ranks,
//! and one window of each, so no two callers wait for each other.

use std::cell::RefCell;

use super::fingerprint::Fingerprint;
use super::window_table::{Place, WindowTable};
use crate::engine::{self, Limit, Outcome, Retention, Window};

/// One limit's part of a decision.
pub(crate) struct Step<'a> {
    table: &'a WindowTable,
    print: Fingerprint,
    now: u64,
    limits: &'a [Limit],
    is_suppressed: bool,
    pub(crate) cost: u64,
    /// Whether a refusal by this limit refuses the request.
    pub(crate) is_enforced: bool,
    /// The position of the limit in the caller's order.
    pub(crate) index: usize,
    pub(crate) outcome: Option<(Outcome, Place)>,
    is_sweep_due: bool,
}

impl<'a> Step<'a> {
    /// A step of an enforced limit that costs one unit.
    pub(crate) fn new(table: &'a WindowTable, key: &[u8], now: u64, limits: &'a [Limit], is_suppressed: bool) -> Self {
        Self {
            table,
            print: table.fingerprint(key),
            now,
            cost: 1,
            limits,
            is_suppressed,
            is_enforced: true,
            index: 0,
            outcome: None,
            is_sweep_due: false,
        }
    }
}

/// Decides on a request with several limits, and charges all that have room or, if an enforced one has none, no limit.
///
/// Returns whether the request is admitted, with the outcomes in the steps, whose order changes. Returns `None` and does
/// nothing if two steps use one table.
pub(crate) fn decide_together(steps: &mut [Step<'_>]) -> Option<bool> {
    steps.sort_unstable_by_key(|step| step.table.rank());
    if steps.windows(2).any(|pair| pair[0].table.rank() == pair[1].table.rank()) {
        return None;
    }
    let is_admitted = descend(steps, true);
    for step in steps.iter().filter(|step| step.is_sweep_due) {
        step.table.sweep_turn(step.now);
    }
    Some(is_admitted)
}

/// Decides on the first step's window, and below its lock on the rest. `fits` is false if the request is refused
/// already. Returns whether it is admitted.
fn descend(steps: &mut [Step<'_>], fits: bool) -> bool {
    let Some((step, rest)) = steps.split_first_mut() else { return fits };
    let (print, now, cost, is_enforced) = (step.print, step.now, step.cost, step.is_enforced);
    let (is_last, rest) = (rest.is_empty(), RefCell::new(rest));
    let below = |outcome: &Outcome| descend(&mut rest.borrow_mut(), fits && (outcome.is_allowed() || !is_enforced));
    let decide = |window: &mut Window, horizon: &Retention| -> (Outcome, bool) {
        let now = step.table.at(window, now);
        if !step.is_suppressed {
            // The usual case needs no look into the history before the charge.
            if let ([limit], true, false) = (step.limits, fits, is_last)
                && window.fits_unexpired(cost, limit)
            {
                let is_admitted = descend(&mut rest.borrow_mut(), true);
                return (engine::absolute(window, now, cost, step.limits, horizon, is_admitted), is_admitted);
            }
            let mut absolute = |charge| engine::absolute(window, now, cost, step.limits, horizon, charge);
            // Below the last step there is nothing that could refuse.
            let first = absolute(fits && is_last);
            let is_admitted = below(&first);
            let is_charged = is_admitted && first.is_allowed();
            return (if is_charged && !is_last { absolute(true) } else { first }, is_admitted);
        }
        // The demand for this limit is what the others admit.
        if !fits {
            let full = engine::at_hard_cap(window, now, cost, step.limits);
            return (full, below(&full));
        }
        let drawn = engine::suppressed(window, now, cost, step.limits, horizon, fastrand::u32(..));
        let is_admitted = below(&drawn);
        if is_admitted || !drawn.is_allowed() {
            return (drawn, is_admitted);
        }
        window.refund(now, drawn.newest, cost, horizon);
        (drawn.uncharged(cost), false)
    };
    if cost == 0 {
        // Nothing is charged, so an unknown key stays unknown.
        let (outcome, is_admitted) = step.table.glance(print, now, decide);
        step.outcome = Some((outcome, Place::Own));
        return is_admitted;
    }
    let keep = |(outcome, is_admitted): &(Outcome, bool)| *is_admitted && outcome.is_allowed();
    let ((outcome, is_admitted), place, is_sweep_due) = step.table.visit(print, now, decide, keep);
    step.outcome = Some((outcome, place));
    step.is_sweep_due = is_sweep_due;
    is_admitted
}

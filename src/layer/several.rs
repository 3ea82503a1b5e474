//! A request with several limits: what is asked of each, and the decisions.

use std::cmp::Reverse;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::built_limit::{Asked, BuiltLimit, TierRef};
use super::handle::{self, RateLimitHandle};
use super::state::LayerState;
use crate::decision::Decision;
use crate::response::{HeadersToAdd, Judged, Responder};
use crate::store::{BudgetRequest, Decisions, MAX_LIMITS, Part, PendingDecisions, decide_into};

/// The limits that apply to a request, and their decisions.
#[derive(Default)]
pub(super) struct Several {
    pub(super) applied: ArrayVec<Asked, MAX_LIMITS>,
    decisions: Decisions,
}

/// The headers for the response to a request with several limits: those of each limit, the tightest first.
pub(super) type SeveralHeaders = Box<[(usize, TierRef, HeadersToAdd)]>;

/// The limits that clients may know of, with their decisions.
pub(super) type Shown<'a> = ArrayVec<Judged<'a>, MAX_LIMITS>;

impl Several {
    /// Asks the budgets of all limits. Without a future, the decisions are complete.
    pub(super) fn decide(&mut self, limits: &[BuiltLimit]) -> Option<PendingDecisions> {
        let mut parts = ArrayVec::<Part<'_>, MAX_LIMITS>::new();
        for asked in &self.applied {
            let limit = &limits[asked.index];
            if let Some(tier) = limit.tier(&asked.tier) {
                let part = Part::new(&tier.budget, BudgetRequest::new(asked.key.as_bytes(), asked.cost));
                parts.push(part.enforced(asked.is_enforced).admitted_on_error(limit.admits_on_error));
            }
        }
        decide_into(&parts, &mut self.decisions)
    }

    /// Sets the decisions after I/O.
    pub(super) fn complete(&mut self, decisions: Decisions) {
        self.decisions = decisions;
    }

    pub(super) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The limits that clients may know of, with their decisions, the tightest first.
    pub(super) fn shown<'a>(&'a self, limits: &'a [BuiltLimit]) -> Shown<'a> {
        let judged = |(at, asked): (usize, &'a Asked)| {
            let tier = limits[asked.index].tier(&asked.tier)?;
            let decision = self.decisions.get(at)?;
            asked.is_enforced.then_some(Judged { limit: &tier.rendered, decision })
        };
        let mut shown: Shown<'a> = self.applied.iter().enumerate().filter_map(judged).collect();
        shown.sort_by_key(|judged| tightness(judged.decision));
        shown
    }

    /// The decision of the tightest limit that clients may know of.
    pub(super) fn tightest(&self, limits: &[BuiltLimit]) -> Option<Decision> {
        self.shown(limits).first().map(|judged| *judged.decision)
    }

    /// The handle for the handler of an admitted request.
    pub(super) fn handle(&self, layer: &Arc<LayerState>) -> RateLimitHandle {
        let limit = |(at, asked): (usize, &Asked)| {
            let decision = self.decisions.get(at).copied();
            let charged = decision.filter(Decision::is_allowed).map_or(0, |_| asked.cost);
            handle::Applied {
                index: asked.index,
                tier: asked.tier.clone(),
                key: asked.key.as_bytes().into(),
                is_enforced: asked.is_enforced,
                decision,
                charged: charged.into(),
            }
        };
        RateLimitHandle::new(layer, self.applied.iter().enumerate().map(limit))
    }

    /// The headers for the response to an admitted request.
    pub(super) fn headers(&self, limits: &[BuiltLimit]) -> Option<SeveralHeaders> {
        let mut headers = Vec::new();
        for (at, asked) in self.applied.iter().enumerate().filter(|(_, asked)| asked.is_enforced) {
            let rendered = limits[asked.index].tier(&asked.tier).map(|tier| &tier.rendered);
            if let Some((rendered, decision)) = rendered.zip(self.decisions.get(at))
                && let Some(to_add) = Responder::admitted(rendered, decision)
            {
                headers.push((tightness(decision), asked.index, asked.tier.clone(), to_add));
            }
        }
        if headers.is_empty() {
            return None;
        }
        headers.sort_by_key(|(tightness, ..)| *tightness);
        Some(headers.into_iter().map(|(_, index, tier, to_add)| (index, tier, to_add)).collect())
    }
}

/// Orders decisions by how little they leave: refusals by their wait, then admissions by the free part of the limit.
pub(super) fn tightness(decision: &Decision) -> (bool, Reverse<u64>, u64) {
    match decision.is_allowed() {
        false => (false, Reverse(decision.retry_after_ms), 0),
        true => {
            let free = u128::from(decision.remaining()) * (1 << 20) / u128::from(decision.limit().max(1));
            (true, Reverse(0), u64::try_from(free).unwrap_or(u64::MAX))
        }
    }
}

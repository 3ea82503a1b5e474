//! A request with several limits: what is asked of each, and the decisions.

use std::cmp::Reverse;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::built_limit::{Asked, BuiltLimit, TierRef};
use super::handle::{self, RateLimitHandle};
use super::state::LayerState;
use crate::decision::Decision;
use crate::response::{HeadersToAdd, Judged, Rendered, Responder};
use crate::store::{BudgetRequest, Decisions, DecisionsResponse, MAX_LIMITS, Part, decide_together};

/// The limits that apply to a request, by their position in the layer.
pub(super) type Applied = ArrayVec<(usize, Asked), MAX_LIMITS>;

/// The decisions on a request.
pub(super) struct Several {
    applied: Applied,
    decisions: Decisions,
}

/// A request that waits for its decisions.
pub(super) struct Deciding {
    pub(super) applied: Applied,
    pub(super) pending: std::pin::Pin<Box<dyn Future<Output = Decisions> + Send>>,
}

/// The headers for the response to a request with several limits: those of each limit, the tightest first.
pub(super) type SeveralHeaders = Box<[(usize, TierRef, HeadersToAdd)]>;

/// A limit that clients may know of, with its decision.
pub(super) type Shown<'a> = ArrayVec<Judged<'a>, MAX_LIMITS>;

/// Asks the budgets of all limits.
pub(super) fn decide(limits: &[BuiltLimit], applied: Applied) -> Result<Several, Deciding> {
    let mut parts = ArrayVec::<Part<'_>, MAX_LIMITS>::new();
    for (index, asked) in &applied {
        if let Some(tier) = limits[*index].tier(&asked.tier) {
            let ask = BudgetRequest::new(asked.key.as_bytes(), asked.cost);
            let part = Part::new(&tier.budget, ask).enforced(asked.is_enforced);
            parts.push(part.admitted_on_error(limits[*index].admits_on_error));
        }
    }
    let response = decide_together(&parts);
    drop(parts);
    match response {
        DecisionsResponse::Ready(decisions) => Ok(Several { applied, decisions }),
        DecisionsResponse::Pending(pending) => Err(Deciding { applied, pending }),
    }
}

impl Several {
    pub(super) fn new(applied: Applied, decisions: Decisions) -> Self {
        Self { applied, decisions }
    }

    pub(super) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The limits that clients may know of, with their decisions, the tightest first.
    pub(super) fn shown<'a>(&'a self, limits: &'a [BuiltLimit]) -> Shown<'a> {
        let judged = |(at, (index, asked)): (usize, &'a (usize, Asked))| {
            let tier = limits[*index].tier(&asked.tier)?;
            let decision = self.decisions.get(at)?;
            asked.is_enforced.then_some(Judged { limit: &tier.rendered, decision })
        };
        let mut shown: Shown<'a> = self.applied.iter().enumerate().filter_map(judged).collect();
        shown.sort_by(|a, b| tightness(a.decision).cmp(&tightness(b.decision)));
        shown
    }

    /// The decision of the tightest limit that clients may know of.
    pub(super) fn tightest(&self, limits: &[BuiltLimit]) -> Option<Decision> {
        self.shown(limits).first().map(|judged| *judged.decision)
    }

    /// The handle for the handler of an admitted request.
    pub(super) fn handle(&self, layer: &Arc<LayerState>) -> RateLimitHandle {
        let limit = |(at, (index, asked)): (usize, &(usize, Asked))| {
            let decision = self.decisions.get(at).copied();
            let charged = decision.filter(Decision::is_allowed).map_or(0, |_| asked.cost);
            handle::Applied {
                index: *index,
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
        for (at, (index, asked)) in self.applied.iter().enumerate().filter(|(_, (_, asked))| asked.is_enforced) {
            let rendered: Option<&Rendered> = limits[*index].tier(&asked.tier).map(|tier| &tier.rendered);
            if let Some((rendered, decision)) = rendered.zip(self.decisions.get(at))
                && let Some(to_add) = Responder::admitted(rendered, decision)
            {
                headers.push((tightness(decision), *index, asked.tier.clone(), to_add));
            }
        }
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let headers: SeveralHeaders =
            headers.into_iter().map(|(_, index, tier, to_add)| (index, tier, to_add)).collect();
        (!headers.is_empty()).then_some(headers)
    }
}

/// Orders decisions by how little they leave: refusals by their wait, then admissions by the free part of the limit.
fn tightness(decision: &Decision) -> (bool, Reverse<u64>, u64) {
    match decision.is_allowed() {
        false => (false, Reverse(decision.retry_after_ms), 0),
        true => {
            let free = u128::from(decision.remaining()) * (1 << 20) / u128::from(decision.limit().max(1));
            (true, Reverse(0), u64::try_from(free).unwrap_or(u64::MAX))
        }
    }
}

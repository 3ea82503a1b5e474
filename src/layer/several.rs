//! A request with several limits: what is asked of each, and the decisions.

use std::cmp::Reverse;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::built_limit::{Asked, BuiltLimit, TierRef};
use super::handle::{self, RateLimitHandle};
use super::in_flight::cap::outlasts;
use super::in_flight::permits::{Permit, Permits};
use super::in_flight::undecided::{Undecided, UndecidedCap};
use super::state::LayerState;
use super::tier::Tier;
use super::waiting;
use crate::decision::Decision;
use crate::response::{HeadersToAdd, Judged, Responder};
use crate::store::{BudgetRequest, Decisions, MAX_LIMITS, Part, PendingDecisions, WaitingRoom, decide_into};

/// The limits that apply to a request, and their decisions.
#[derive(Default)]
pub(super) struct Several {
    pub(super) applied: ArrayVec<Asked, MAX_LIMITS>,
    /// The limits with a ban, by their position in `applied`. Their bans are decided before the limits.
    bans: ArrayVec<u8, MAX_LIMITS>,
    decisions: Decisions,
    /// Of the limits that cap the requests in flight, from the decision on.
    permits: Permits,
}

/// Refusals that are being counted. The results are the decisions of bans that begin, with their position.
pub(super) type Strikes = Pin<Box<dyn Future<Output = Vec<(usize, Decision)>> + Send>>;

/// The headers for the response to a request with several limits: those of each limit, the tightest first.
pub(super) type SeveralHeaders = Box<[(usize, TierRef, HeadersToAdd)]>;

/// The limits that clients may know of, with their decisions.
pub(super) type Shown<'a> = ArrayVec<Judged<'a>, MAX_LIMITS>;

impl Several {
    /// Asks the budgets of all limits. Without a future, the decisions are complete.
    pub(super) fn decide(&mut self, limits: &[BuiltLimit], has_bans: bool) -> Option<PendingDecisions> {
        let mut parts = ArrayVec::new();
        self.bans.clear();
        if has_bans {
            collect_bans(&self.applied, limits, &mut self.bans, &mut parts);
        }
        collect(&self.applied, limits, &mut parts);
        decide_into(&parts, &mut self.decisions)
    }

    /// Does the same in a layer with a waiting room: a request that would be refused waits, for at most a time.
    #[cold]
    pub(super) fn decide_or_wait(
        &mut self,
        limits: &[BuiltLimit],
        room: &Arc<WaitingRoom>,
        max_wait: Duration,
    ) -> Option<PendingDecisions> {
        let mut parts = ArrayVec::new();
        self.bans.clear();
        collect_bans(&self.applied, limits, &mut self.bans, &mut parts);
        collect(&self.applied, limits, &mut parts);
        room.decide_into(waiting::place(room, &self.applied), &parts, max_wait, &mut self.decisions)
    }

    /// Makes sure that a decision on caps returns its permits if the request is dropped before it is made.
    #[cold]
    pub(super) fn guard(&self, limits: &[BuiltLimit], pending: PendingDecisions) -> PendingDecisions {
        let cap = |(at, asked): (usize, &Asked)| {
            let limit = &limits[asked.index];
            let tier = limit.tier(&asked.tier).filter(|_| limit.is_cap)?;
            let (at, budget) = (self.bans.len() + at, Arc::clone(&tier.budget));
            Some(UndecidedCap { at, budget, key: asked.key.as_bytes().into(), watch: limit.watch.clone() })
        };
        let caps: Vec<UndecidedCap> = self.applied.iter().enumerate().filter_map(cap).collect();
        if caps.is_empty() { pending } else { Box::pin(Undecided::new(pending, caps)) }
    }

    /// Takes the permits that the decision charged. Nothing happens between the two.
    #[cold]
    pub(super) fn hold_permits(&mut self, limits: &[BuiltLimit]) {
        let mut permits = Vec::new();
        for (at, asked) in self.applied.iter().enumerate().filter(|(_, asked)| limits[asked.index].is_cap) {
            let limit = &limits[asked.index];
            let Some(tier) = limit.tier(&asked.tier) else { continue };
            let is_charged = |decision: &&Decision| self.decisions.is_allowed() && decision.is_allowed();
            let decision = self.decision(at).filter(is_charged);
            permits.extend(decision.map(|it| Permit::new(&tier.budget, asked.key.as_bytes(), *it, &limit.watch)));
            self.decisions.change(self.bans.len() + at, outlasts);
        }
        self.permits = Permits::new(permits);
    }

    /// The permits of an admitted request.
    pub(super) fn permits(&self) -> &Permits {
        &self.permits
    }

    /// The decision of the limit at a position in `applied`.
    fn decision(&self, at: usize) -> Option<&Decision> {
        self.decisions.get(self.bans.len() + at)
    }

    /// Counts the refusals of limits with a ban, except those of a banned key. Without a future, no ban begins.
    pub(super) fn strike(&self, limits: &[BuiltLimit]) -> Option<Strikes> {
        let mut strikes = Vec::new();
        for (ban_at, at) in self.bans.iter().map(|at| usize::from(*at)).enumerate() {
            let is_refused = |decision: Option<&Decision>| decision.is_some_and(|decision| !decision.is_allowed());
            if is_refused(self.decision(at)) && !is_refused(self.decisions.get(ban_at)) {
                let asked = &self.applied[at];
                let ban = limits[asked.index].ban.as_ref();
                strikes.extend(ban.and_then(|ban| ban.strike(asked.key.as_bytes())).map(|strike| (ban_at, strike)));
            }
        }
        if strikes.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            let mut begun = Vec::new();
            for (ban_at, strike) in strikes {
                begun.extend(strike.await.map(|decision| (ban_at, decision)));
            }
            begun
        }))
    }

    /// Adds the decisions of bans that begin with this request.
    pub(super) fn begin_bans(&mut self, begun: Vec<(usize, Decision)>) {
        for (ban_at, decision) in begun {
            let is_enforced = self.bans.get(ban_at).is_some_and(|at| self.applied[usize::from(*at)].is_enforced);
            self.decisions.record(ban_at, is_enforced, decision);
        }
    }

    /// Sets the decisions after I/O.
    pub(super) fn complete(&mut self, decisions: Decisions) {
        self.decisions = decisions;
    }

    pub(super) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Each limit that applies, with the decision of its ban if that refuses, and its own decision.
    pub(super) fn decided(&self) -> impl Iterator<Item = (&Asked, Option<&Decision>, Option<&Decision>)> {
        self.applied.iter().enumerate().map(|(at, asked)| {
            let ban_at = self.bans.iter().position(|ban| usize::from(*ban) == at);
            let ban = ban_at.and_then(|ban_at| self.decisions.get(ban_at)).filter(|ban| !ban.is_allowed());
            (asked, ban, self.decision(at))
        })
    }

    /// The limits that clients may know of, with their decisions, the tightest first.
    pub(super) fn shown<'a>(&'a self, limits: &'a [BuiltLimit]) -> Shown<'a> {
        let judged = |(at, asked): (usize, &'a Asked)| {
            let tier = limits[asked.index].tier(&asked.tier)?;
            let decision = self.decision(at)?;
            asked.is_enforced.then_some(Judged { limit: &tier.rendered, decision })
        };
        // A ban is shown only if it refuses.
        let banned = |(ban_at, at): (usize, &u8)| {
            let asked = self.applied.get(usize::from(*at)).filter(|asked| asked.is_enforced)?;
            let decision = self.decisions.get(ban_at).filter(|decision| !decision.is_allowed())?;
            Some(Judged { limit: &limits[asked.index].ban.as_ref()?.tier.rendered, decision })
        };
        let limited = self.applied.iter().enumerate().filter_map(judged);
        let mut shown: Shown<'a> = limited.chain(self.bans.iter().enumerate().filter_map(banned)).collect();
        shown.sort_by_key(|judged| tightness(judged.decision));
        // A cap knows no wait, and a ban does.
        if let Some(at) = shown.iter().position(|judged| judged.limit.is_ban())
            && shown[0].limit.is_cap()
        {
            shown[..=at].rotate_right(1);
        }
        shown
    }

    /// The decision of the tightest limit that clients may know of.
    pub(super) fn tightest(&self, limits: &[BuiltLimit]) -> Option<Decision> {
        self.shown(limits).first().map(|judged| *judged.decision)
    }

    /// The handle for the handler of an admitted request.
    pub(super) fn handle(&self, layer: &Arc<LayerState>) -> RateLimitHandle {
        let limit = |(at, asked): (usize, &Asked)| {
            let decision = self.decision(at).copied();
            let is_charged = |decision: &Decision| decision.is_allowed() && !layer.limits[asked.index].is_cap;
            let charged = decision.filter(is_charged).map_or(0, |_| asked.cost);
            handle::Applied {
                index: asked.index,
                tier: asked.tier.clone(),
                key: asked.key.as_bytes().into(),
                is_enforced: asked.is_enforced,
                decision,
                charges: handle::Charges::new(charged),
            }
        };
        RateLimitHandle::new(layer, self.applied.iter().enumerate().map(limit), self.permits.downgrade())
    }

    /// The headers for the response to an admitted request.
    pub(super) fn headers(&self, limits: &[BuiltLimit]) -> Option<SeveralHeaders> {
        let mut headers = Vec::new();
        for (at, asked) in self.applied.iter().enumerate().filter(|(_, asked)| asked.is_enforced) {
            let rendered = limits[asked.index].tier(&asked.tier).map(|tier| &tier.rendered);
            if let Some((rendered, decision)) = rendered.zip(self.decision(at))
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

/// Collects the bans of the limits that apply, as parts of the decision.
fn collect_bans<'a>(
    applied: &'a [Asked],
    limits: &'a [BuiltLimit],
    bans: &mut ArrayVec<u8, MAX_LIMITS>,
    parts: &mut ArrayVec<Part<'a>, MAX_LIMITS>,
) {
    for (at, asked) in applied.iter().enumerate() {
        if let Some(ban) = &limits[asked.index].ban {
            bans.push(at as u8);
            parts.push(part(&limits[asked.index], asked, &ban.tier, 0));
        }
    }
}

/// Collects the limits that apply, in place, because the parts are large.
#[inline(always)]
fn collect<'a>(applied: &'a [Asked], limits: &'a [BuiltLimit], parts: &mut ArrayVec<Part<'a>, MAX_LIMITS>) {
    for asked in applied {
        if let Some(tier) = limits[asked.index].tier(&asked.tier) {
            parts.push(part(&limits[asked.index], asked, tier, asked.cost));
        }
    }
}

fn part<'a>(limit: &BuiltLimit, asked: &'a Asked, tier: &'a Tier, cost: u64) -> Part<'a> {
    let part = Part::new(&tier.budget, BudgetRequest::new(asked.key.as_bytes(), cost));
    part.enforced(asked.is_enforced).admitted_on_error(limit.admits_on_error)
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

//! The outcome for a request, and the preparation of its response.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, Response, StatusCode};

use super::handle::RateLimitHandle;
use super::in_flight::permits::{Permits, WeakPermits};
use super::settle::ResponseView;
use super::several::{Several, SeveralHeaders};
use super::state::LayerState;
use super::steps::Progress;
use super::unsettled::{Tail, Unsettled};
use super::waiting;
use crate::decision::Decision;
use crate::key::Fault;
use crate::keyspace::fingerprint::Fingerprint;
use crate::response::{HeadersToAdd, Judged, Limited, Refusal, Responder};
use crate::store::BudgetResponse;

/// The outcome for a request.
pub(super) enum Outcome<'a> {
    Admitted(Admission<'a>),
    Refused(Refused<'a>),
}

/// What admitted a request.
#[derive(Clone, Copy)]
pub(super) enum Admission<'a> {
    Unlimited,
    Plain(&'a Decision),
    Several(&'a Several),
}

/// What refused a request.
#[derive(Clone, Copy)]
pub(super) enum Refused<'a> {
    Plain(&'a Decision),
    Several(&'a Several),
    NoKey(Fault),
    Unavailable,
    Denied,
}

/// The headers for the response to an admitted request.
pub(super) enum Headers {
    Plain(HeadersToAdd),
    Several(SeveralHeaders),
    /// With what the response decides.
    Followed(Box<Followed>),
}

/// What follows from the response to an admitted request.
pub(super) struct Followed {
    headers: Option<SeveralHeaders>,
    pub(super) unsettled: Option<Unsettled>,
    pub(super) permits: Permits,
    /// The place in the waiting room that pauses if the response asks for it.
    place: Option<Fingerprint>,
}

impl Headers {
    /// Ends the request, for which no response follows.
    pub(super) fn release(&mut self) {
        if let Self::Followed(followed) = self {
            followed.permits = Permits::default();
        }
    }
}

impl Followed {
    /// What follows from the head of the response. Returns what waits for the end of its body.
    pub(super) fn tail<B>(&mut self, layer: &Arc<LayerState>, response: &Response<B>) -> Option<Tail> {
        let view = ResponseView::new(response);
        let tail = self.unsettled.as_ref().and_then(|unsettled| unsettled.settle(&view));
        match std::mem::take(&mut self.permits) {
            permits if permits.is_empty() => tail,
            permits => Some(tail.unwrap_or_else(|| Tail::without_charges(layer, &view)).holding(permits)),
        }
    }
}

impl LayerState {
    /// The outcome, or `None` if the request waits for I/O. `several` has the decisions if there is no box.
    ///
    /// It reports the decisions, so the caller asks once for each request that does not wait.
    #[inline]
    pub(super) fn outcome<'a>(&self, progress: &'a Progress, several: Option<&'a Several>) -> Option<Outcome<'a>> {
        let outcome = self.judge(progress, several)?;
        self.observe(progress, several);
        Some(outcome)
    }

    #[inline]
    fn judge<'a>(&self, progress: &'a Progress, several: Option<&'a Several>) -> Option<Outcome<'a>> {
        Some(match progress {
            Progress::Looking(_)
            | Progress::Deciding(..)
            | Progress::Striking(..)
            | Progress::Store(BudgetResponse::Pending(_)) => return None,
            Progress::Store(BudgetResponse::Ready(Ok(decision))) => match decision.is_allowed() {
                true => Outcome::Admitted(Admission::Plain(decision)),
                false => Outcome::Refused(Refused::Plain(decision)),
            },
            Progress::Store(BudgetResponse::Ready(Err(_))) => match self.limits[0].admits_on_error {
                true => Outcome::Admitted(Admission::Unlimited),
                false => Outcome::Refused(Refused::Unavailable),
            },
            Progress::Decided(boxed) => {
                let several = boxed.as_deref().or(several)?;
                match several.decisions() {
                    decisions if decisions.is_allowed() => Outcome::Admitted(Admission::Several(several)),
                    decisions if decisions.is_unavailable() => Outcome::Refused(Refused::Unavailable),
                    _ => Outcome::Refused(Refused::Several(several)),
                }
            }
            Progress::Denied => Outcome::Refused(Refused::Denied),
            Progress::NoKey(fault) => Outcome::Refused(Refused::NoKey(*fault)),
            Progress::Unavailable => Outcome::Refused(Refused::Unavailable),
            Progress::Unlimited => Outcome::Admitted(Admission::Unlimited),
        })
    }

    /// Prepares an admitted request, and the headers for its response.
    #[inline]
    pub(super) fn admit(self: &Arc<Self>, admission: Admission<'_>, request: &mut Extensions) -> Option<Headers> {
        match admission {
            Admission::Unlimited => {
                if self.handle_in_request {
                    request.insert(RateLimitHandle::new(self, [], WeakPermits::default()));
                }
                None
            }
            Admission::Plain(decision) => {
                if self.decision_in_request {
                    insert_decision(*decision, request);
                }
                Responder::admitted(self.plain_rendered()?, decision).map(Headers::Plain)
            }
            Admission::Several(several) => self.admit_several(several, request),
        }
    }

    #[inline(never)]
    fn admit_several(self: &Arc<Self>, several: &Several, request: &mut Extensions) -> Option<Headers> {
        if self.decision_in_request
            && let Some(decision) = several.tightest(&self.limits)
        {
            insert_decision(decision, request);
        }
        let headers = several.headers(&self.limits);
        let settles = || several.applied.iter().any(|asked| self.limits[asked.index].follows_response());
        let is_unsettled = self.settles && settles();
        let handle = (self.handle_in_request || is_unsettled).then(|| several.handle(self));
        if self.handle_in_request
            && let Some(handle) = &handle
        {
            request.insert(handle.clone());
        }
        let unsettled = handle.filter(|_| is_unsettled).map(Unsettled::new);
        let heeding = self.room.as_ref().filter(|room| room.heeds_pauses());
        let place = heeding.map(|room| waiting::place(room, &several.applied));
        let permits = several.permits().clone();
        match unsettled.is_some() || place.is_some() || !permits.is_empty() {
            true => Some(Headers::Followed(Box::new(Followed { headers, unsettled, permits, place }))),
            false => headers.map(Headers::Several),
        }
    }

    /// Adds headers to the response to an admitted request.
    pub(super) fn add(&self, to_add: &Headers, status: StatusCode, headers: &mut HeaderMap) {
        match to_add {
            Headers::Plain(to_add) => {
                if let Some(rendered) = self.plain_rendered() {
                    Responder::add(rendered, to_add, status, headers);
                }
            }
            Headers::Several(several) => self.add_several(several, status, headers),
            Headers::Followed(followed) => {
                if let (Some(room), Some(place)) = (&self.room, followed.place)
                    && let Some(wait) = waiting::asked_pause(status, headers)
                {
                    room.pause(place, wait);
                }
                if let Some(several) = &followed.headers {
                    self.add_several(several, status, headers);
                }
            }
        }
    }

    fn add_several(&self, several: &SeveralHeaders, status: StatusCode, headers: &mut HeaderMap) {
        for (index, tier, to_add) in several {
            if let Some(tier) = self.limits[*index].tier(tier) {
                Responder::add(&tier.rendered, to_add, status, headers);
            }
        }
    }

    /// The response to a refused request. It takes headers and extensions out of the request.
    pub(super) fn refuse(&self, refused: Refused<'_>, request: &mut Parts) -> Response<Bytes> {
        let policy = self.limits[0].tiers.policy();
        let refusal = match refused {
            Refused::Plain(decision) => match self.plain_rendered() {
                Some(limit) => Refusal::Limited(Limited { by: Judged { limit, decision }, all: &[] }),
                None => Refusal::Unavailable,
            },
            Refused::Several(several) => return self.refuse_several(several, request),
            Refused::NoKey(fault) => Refusal::MissingKey(fault),
            Refused::Unavailable => Refusal::Unavailable,
            Refused::Denied => Refusal::Denied,
        };
        self.responder.refuse(refusal, policy, request)
    }

    #[inline(never)]
    fn refuse_several(&self, several: &Several, request: &mut Parts) -> Response<Bytes> {
        let shown = several.shown(&self.limits);
        // The tightest is the one with the longest wait.
        let refusal = match shown.first() {
            Some(by) => Refusal::Limited(Limited { by: *by, all: &shown }),
            None => Refusal::Unavailable,
        };
        self.responder.refuse(refusal, self.limits[0].tiers.policy(), request)
    }
}

/// A function of its own, because few layers need it.
#[cold]
fn insert_decision(decision: Decision, extensions: &mut Extensions) {
    extensions.insert(decision);
}

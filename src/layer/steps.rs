//! The steps of a request: keys, quotas, costs, one decision, and the preparation of the response.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, Response, StatusCode};

use super::built_limit::{Asked, Begun};
use super::handle::RateLimitHandle;
use super::on_missing_key::OnMissingKey;
use super::rules::Rule;
use super::several::{Several, SeveralHeaders, Strikes};
use super::state::LayerState;
use super::unsettled::Unsettled;
use crate::decision::Decision;
use crate::key::{Fault, KeyWriter, MissingKey, RequestView};
use crate::response::{HeadersToAdd, Judged, Limited, Refusal, Responder};
use crate::store::{BudgetRequest, BudgetResponse, PendingDecisions};
use crate::telemetry::{self, Notice};

/// The first step of a request. It is small, because most layers have one plain limit.
pub(super) enum Entry {
    /// The request is exempt or denied.
    Rule(Rule),
    /// The store of a plain limit has decided, or is about to.
    Plain(BudgetResponse),
    /// The request has no key for a plain limit.
    NoKey(MissingKey),
    /// The layer has no plain limit.
    Other,
}

/// How far the layer is with a request.
pub(super) enum Progress {
    /// The store of a plain limit has decided, or is about to.
    Store(BudgetResponse),
    /// Keys or quotas are being looked up.
    Looking(Box<Several>),
    /// The stores are about to decide.
    Deciding(Box<Several>, PendingDecisions),
    /// The stores have decided, and refusals are being counted.
    Striking(Box<Several>, Strikes),
    /// The stores have decided. Without a box, the caller has the decisions.
    Decided(Option<Box<Several>>),
    /// The request is refused, because it is on a deny list.
    Denied,
    /// The request is refused, because it has no key.
    NoKey(Fault),
    /// The request is refused, because its quotas are not known, or a store does not support them.
    Unavailable,
    /// The request is admitted without a decision.
    Unlimited,
}

/// What the budgets answered.
enum Decide {
    /// No limit applies.
    Unlimited,
    Complete,
    Pending(PendingDecisions),
}

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
    /// With charges that the response settles.
    Unsettled(Box<Unsettled>),
}

impl LayerState {
    /// Reads the key of a plain limit and charges its budget.
    #[inline]
    pub(super) fn enter(&self, request: &RequestView<'_>) -> Entry {
        if let Some(rule) = self.rules.find(request) {
            return Entry::Rule(rule);
        }
        match &self.plain {
            Some(plain) if plain.mode.is_enforce() => {
                let mut key = KeyWriter::new();
                match plain.key.key(request, &mut key) {
                    Ok(()) => {
                        let cost = plain.cost.as_ref().map_or(1, |cost| cost(request));
                        Entry::Plain(plain.tier.budget.decide(BudgetRequest::new(key.as_bytes(), cost)))
                    }
                    Err(missing) => Entry::NoKey(missing),
                }
            }
            _ => Entry::Other,
        }
    }

    /// Continues with a request that a plain limit has not decided at once. `several` is empty, and has the decisions if
    /// these need no I/O.
    pub(super) fn proceed(&self, entry: Entry, request: &RequestView<'_>, several: &mut Several) -> Progress {
        let mut missing = match entry {
            Entry::Rule(Rule::Exempt) => return Progress::Unlimited,
            Entry::Rule(Rule::Deny) => return Progress::Denied,
            Entry::Plain(response) => return Progress::Store(response),
            Entry::NoKey(missing) => Some(missing),
            Entry::Other => None,
        };
        let mut is_pending = false;
        for (index, limit) in self.limits.iter().enumerate() {
            several.applied.push(Asked::new(index));
            let Some(asked) = several.applied.last_mut() else { break };
            // The key of a plain limit is read only once.
            let begun = missing.take().map_or_else(|| limit.begin(request, asked), Begun::NoKey);
            match self.resolve(request, asked, begun) {
                Begun::Ready => {}
                Begun::Pending => is_pending = true,
                Begun::Skipped => drop(several.applied.pop()),
                Begun::NoKey(missing) => return Progress::NoKey(missing.fault()),
                Begun::Unavailable => return Progress::Unavailable,
            }
        }
        if is_pending {
            return Progress::Looking(Box::new(std::mem::take(several)));
        }
        match self.decide(several) {
            Decide::Unlimited => Progress::Unlimited,
            Decide::Complete => match several.strike(&self.limits) {
                None => Progress::Decided(None),
                Some(strikes) => Progress::Striking(Box::new(std::mem::take(several)), strikes),
            },
            Decide::Pending(pending) => Progress::Deciding(Box::new(std::mem::take(several)), pending),
        }
    }

    /// Continues after the decision of the stores.
    fn conclude(&self, several: Box<Several>) -> Progress {
        match several.strike(&self.limits) {
            None => Progress::Decided(Some(several)),
            Some(strikes) => Progress::Striking(several, strikes),
        }
    }

    /// Asks the budgets of the limits that apply.
    fn decide(&self, several: &mut Several) -> Decide {
        let is_blocked = |asked: &Asked| {
            let refuses = asked.is_enforced && asked.cost > 0;
            refuses && self.limits[asked.index].tier(&asked.tier).is_some_and(|tier| tier.is_blocked)
        };
        if self.may_block
            && let Some(blocked) = several.applied.iter().position(is_blocked)
        {
            // No wait helps, whatever the other limits decide.
            several.applied.swap(0, blocked);
            several.applied.truncate(1);
        }
        match several.applied.is_empty() {
            true => Decide::Unlimited,
            false => several.decide(&self.limits, self.has_bans).map_or(Decide::Complete, Decide::Pending),
        }
    }

    /// Applies the rules for a limit without a key or without quotas.
    #[inline]
    fn resolve(&self, request: &RequestView<'_>, asked: &mut Asked, begun: Begun) -> Begun {
        match begun {
            Begun::NoKey(_) | Begun::Unavailable => self.resolve_failure(request, asked, begun),
            begun => begun,
        }
    }

    #[cold]
    fn resolve_failure(&self, request: &RequestView<'_>, asked: &mut Asked, begun: Begun) -> Begun {
        let limit = &self.limits[asked.index];
        let begun = match begun {
            Begun::NoKey(missing) => self.missing(request, asked, missing),
            begun => begun,
        };
        let is_enforced = limit.mode.enforces(limit.tiers.policy().name(), &[]);
        match begun {
            Begun::NoKey(_) if !is_enforced => Begun::Skipped,
            Begun::Unavailable if limit.admits_on_error || !is_enforced => Begun::Skipped,
            begun => begun,
        }
    }

    /// Continues when the I/O is complete.
    pub(super) fn poll(&self, progress: &mut Progress, request: &RequestView<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::Looking(several) = progress {
            *progress = ready!(self.poll_lookups(several, request, cx));
        }
        if let Progress::Deciding(several, pending) = progress {
            several.complete(ready!(pending.as_mut().poll(cx)));
            *progress = self.conclude(std::mem::take(several));
        }
        match progress {
            Progress::Store(BudgetResponse::Pending(decision)) => {
                *progress = Progress::Store(BudgetResponse::Ready(ready!(decision.as_mut().poll(cx))));
            }
            Progress::Striking(several, strikes) => {
                several.begin_bans(ready!(strikes.as_mut().poll(cx)));
                *progress = Progress::Decided(Some(std::mem::take(several)));
            }
            _ => {}
        }
        Poll::Ready(())
    }

    fn poll_lookups(
        &self,
        several: &mut Box<Several>,
        request: &RequestView<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Progress> {
        let mut at = 0;
        while let Some(asked) = several.applied.get_mut(at) {
            let begun = match self.limits[asked.index].poll(request, asked, cx) {
                Poll::Ready(begun) => self.resolve(request, asked, begun),
                Poll::Pending => Begun::Pending,
            };
            match begun {
                Begun::Ready | Begun::Pending => at += 1,
                Begun::Skipped => drop(several.applied.remove(at)),
                Begun::NoKey(missing) => return Poll::Ready(Progress::NoKey(missing.fault())),
                Begun::Unavailable => return Poll::Ready(Progress::Unavailable),
            }
        }
        if several.applied.iter().any(|asked| asked.pending.is_some()) {
            return Poll::Pending;
        }
        Poll::Ready(match self.decide(several) {
            Decide::Unlimited => Progress::Unlimited,
            Decide::Complete => self.conclude(std::mem::take(several)),
            Decide::Pending(pending) => Progress::Deciding(std::mem::take(several), pending),
        })
    }

    /// The outcome, or `None` if the request waits for I/O. `several` has the decisions if there is no box.
    #[inline]
    pub(super) fn outcome<'a>(&self, progress: &'a Progress, several: Option<&'a Several>) -> Option<Outcome<'a>> {
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
                    request.insert(RateLimitHandle::new(self, []));
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
        let settles = || several.applied.iter().any(|asked| self.limits[asked.index].settles.is_some());
        let is_unsettled = self.settles && settles();
        if !self.handle_in_request && !is_unsettled {
            return headers.map(Headers::Several);
        }
        let limits = several.handle(self);
        if self.handle_in_request {
            request.insert(limits.clone());
        }
        match is_unsettled {
            true => Some(Headers::Unsettled(Box::new(Unsettled { limits, headers }))),
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
            Headers::Unsettled(unsettled) => {
                if let Some(several) = &unsettled.headers {
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

    /// Continues with a request that has no key for a limit.
    #[cold]
    fn missing(&self, request: &RequestView<'_>, asked: &mut Asked, missing: MissingKey) -> Begun {
        match missing.fault() {
            Fault::PeerAddress => telemetry::notify(Notice::MissingPeerAddress, None),
            Fault::ProxyHeader => telemetry::notify(Notice::UnusableProxyHeader, Some(missing.what())),
            Fault::Server => telemetry::notify(Notice::MissingKey, Some(missing.what())),
            Fault::Client => {}
        }
        match self.on_missing_key {
            OnMissingKey::Shared => {
                // Bytes from before the failure must not separate such requests.
                asked.key = KeyWriter::new();
                asked.key.missing();
                self.limits[asked.index].choose(request, asked)
            }
            OnMissingKey::Allow => Begun::Skipped,
            OnMissingKey::Reject => Begun::NoKey(missing),
        }
    }
}

/// A function of its own, because few layers need it.
#[cold]
fn insert_decision(decision: Decision, extensions: &mut Extensions) {
    extensions.insert(decision);
}

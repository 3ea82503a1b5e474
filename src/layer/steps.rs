//! The steps of a request: keys, quotas, costs, one decision, and the preparation of the response.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, Response, StatusCode};

use super::built_limit::{BuiltLimit, Stage};
use super::handle::RateLimitHandle;
use super::on_missing_key::OnMissingKey;
use super::several::{self, Applied, Deciding, Several, SeveralHeaders};
use super::state::LayerState;
use crate::decision::Decision;
use crate::key::{Fault, KeyWriter, MissingKey, RequestView};
use crate::response::{HeadersToAdd, Judged, Limited, Refusal, Responder};
use crate::store::{BudgetRequest, BudgetResponse, MAX_LIMITS};
use crate::telemetry::{self, Notice};

/// The first step of a request. It is small, because most layers have one plain limit.
pub(super) enum Entry {
    /// The request is exempt.
    Exempt,
    /// The store of a plain limit has decided, or is about to.
    Plain(BudgetResponse),
    /// The layer has no plain limit, or the request has no key for it.
    Other,
}

/// How far the layer is with a request.
pub(super) enum Progress {
    /// The store of a plain limit has decided, or is about to.
    Store(BudgetResponse),
    /// Keys or quotas are being looked up.
    Looking(Box<Stages>),
    /// The stores are about to decide.
    Deciding(Box<Deciding>),
    /// The stores have decided.
    Several(Several),
    /// The request is refused, because it has no key.
    NoKey(Fault),
    /// The request is refused, because a store does not support its quotas.
    Unavailable,
    /// The request is admitted without a decision.
    Unlimited,
}

/// The stages of all limits, in the order of the layer.
type Stages = ArrayVec<Stage, MAX_LIMITS>;

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
}

/// The headers for the response to an admitted request.
pub(super) enum Headers {
    Plain(HeadersToAdd),
    Several(SeveralHeaders),
}

impl LayerState {
    /// Reads the key of a plain limit and charges its budget.
    #[inline]
    pub(super) fn enter(&self, request: &RequestView<'_>) -> Entry {
        if self.exempt.covers(request) {
            return Entry::Exempt;
        }
        match &self.plain {
            Some(plain) if plain.mode.is_enforce() => {
                let mut key = KeyWriter::new();
                match plain.key.key(request, &mut key) {
                    Ok(()) => Entry::Plain(plain.tier.budget.decide(BudgetRequest::new(key.as_bytes(), 1))),
                    Err(_) => Entry::Other,
                }
            }
            _ => Entry::Other,
        }
    }

    /// Continues with a request that a plain limit has not decided at once.
    pub(super) fn proceed(&self, entry: Entry, request: &RequestView<'_>) -> Progress {
        match entry {
            Entry::Exempt => return Progress::Unlimited,
            Entry::Plain(response) => return Progress::Store(response),
            Entry::Other => {}
        }
        let mut stages = Stages::new();
        for limit in &self.limits {
            stages.push(limit.begin(request));
        }
        if stages.iter().any(|stage| matches!(stage, Stage::Key(_))) {
            return Progress::Looking(Box::new(stages));
        }
        self.decide(request, stages)
    }

    /// Asks the budgets of the limits that apply.
    fn decide(&self, request: &RequestView<'_>, stages: Stages) -> Progress {
        let mut applied = Applied::new();
        for (index, (stage, limit)) in stages.into_iter().zip(&self.limits).enumerate() {
            match self.resolve(request, limit, stage) {
                Stage::Ready(asked) if asked.is_enforced && limit.tier(&asked.tier).is_some_and(|it| it.is_blocked) => {
                    // No wait helps, whatever the other limits say.
                    applied = Applied::from_iter([(index, asked)]);
                    break;
                }
                Stage::Ready(asked) => applied.push((index, asked)),
                Stage::NoKey(missing) => return Progress::NoKey(missing.fault()),
                Stage::Unsupported => return Progress::Unavailable,
                Stage::Skipped | Stage::Key(_) => {}
            }
        }
        if applied.is_empty() {
            return Progress::Unlimited;
        }
        match several::decide(&self.limits, applied) {
            Ok(several) => Progress::Several(several),
            Err(deciding) => Progress::Deciding(Box::new(deciding)),
        }
    }

    /// Applies the rules for a limit without a key, or without quotas that its store supports.
    fn resolve(&self, request: &RequestView<'_>, limit: &BuiltLimit, stage: Stage) -> Stage {
        let stage = match stage {
            Stage::NoKey(missing) => self.missing(request, limit, missing),
            stage => stage,
        };
        let is_enforced = limit.mode.enforces(limit.tiers.policy().name(), &[]);
        match stage {
            Stage::NoKey(_) if !is_enforced => Stage::Skipped,
            Stage::Unsupported => {
                telemetry::notify(Notice::UnsupportedQuotas, None);
                if limit.admits_on_error || !is_enforced { Stage::Skipped } else { Stage::Unsupported }
            }
            stage => stage,
        }
    }

    /// Continues when the I/O is complete.
    pub(super) fn poll(&self, progress: &mut Progress, request: &RequestView<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::Looking(stages) = progress {
            let mut is_complete = true;
            for (stage, limit) in stages.iter_mut().zip(&self.limits) {
                if let Stage::Key(key) = stage {
                    match key.as_mut().poll(cx) {
                        Poll::Ready(Ok(key)) => *stage = limit.with_key(request, key),
                        Poll::Ready(Err(missing)) => *stage = Stage::NoKey(missing),
                        Poll::Pending => is_complete = false,
                    }
                }
            }
            if !is_complete {
                return Poll::Pending;
            }
            let stages = std::mem::take(&mut **stages);
            *progress = self.decide(request, stages);
        }
        match progress {
            Progress::Store(BudgetResponse::Pending(decision)) => {
                *progress = Progress::Store(BudgetResponse::Ready(ready!(decision.as_mut().poll(cx))));
            }
            Progress::Deciding(deciding) => {
                let decisions = ready!(deciding.pending.as_mut().poll(cx));
                let applied = std::mem::take(&mut deciding.applied);
                *progress = Progress::Several(Several::new(applied, decisions));
            }
            _ => {}
        }
        Poll::Ready(())
    }

    /// The outcome, or `None` if the request waits for I/O.
    #[inline]
    pub(super) fn outcome<'a>(&self, progress: &'a Progress) -> Option<Outcome<'a>> {
        Some(match progress {
            Progress::Looking(_) | Progress::Deciding(_) | Progress::Store(BudgetResponse::Pending(_)) => return None,
            Progress::Store(BudgetResponse::Ready(Ok(decision))) => match decision.is_allowed() {
                true => Outcome::Admitted(Admission::Plain(decision)),
                false => Outcome::Refused(Refused::Plain(decision)),
            },
            Progress::Store(BudgetResponse::Ready(Err(_))) => match self.limits[0].admits_on_error {
                true => Outcome::Admitted(Admission::Unlimited),
                false => Outcome::Refused(Refused::Unavailable),
            },
            Progress::Several(several) => match several.decisions() {
                decisions if decisions.is_allowed() => Outcome::Admitted(Admission::Several(several)),
                decisions if decisions.is_unavailable() => Outcome::Refused(Refused::Unavailable),
                _ => Outcome::Refused(Refused::Several(several)),
            },
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
        if self.handle_in_request {
            request.insert(several.handle(self));
        }
        several.headers(&self.limits).map(Headers::Several)
    }

    /// Adds headers to the response to an admitted request.
    pub(super) fn add(&self, to_add: &Headers, status: StatusCode, headers: &mut HeaderMap) {
        match to_add {
            Headers::Plain(to_add) => {
                if let Some(rendered) = self.plain_rendered() {
                    Responder::add(rendered, to_add, status, headers);
                }
            }
            Headers::Several(several) => {
                for (index, tier, to_add) in several {
                    if let Some(tier) = self.limits[*index].tier(tier) {
                        Responder::add(&tier.rendered, to_add, status, headers);
                    }
                }
            }
        }
    }

    /// The response to a refused request. It takes headers and extensions out of the request.
    pub(super) fn refuse(&self, refused: Refused<'_>, request: &mut Parts) -> Response<Bytes> {
        let shown = match refused {
            Refused::Several(several) => several.shown(&self.limits),
            _ => ArrayVec::new(),
        };
        let limited = match refused {
            Refused::Plain(decision) => {
                self.plain_rendered().map(|limit| Limited { by: Judged { limit, decision }, all: &[] })
            }
            // The tightest is the one with the longest wait.
            Refused::Several(_) => shown.first().map(|by| Limited { by: *by, all: &shown }),
            Refused::NoKey(_) | Refused::Unavailable => None,
        };
        let refusal = match (refused, limited) {
            (Refused::NoKey(fault), _) => Refusal::MissingKey(fault),
            (_, Some(limited)) => Refusal::Limited(limited),
            (_, None) => Refusal::Unavailable,
        };
        self.responder.refuse(refusal, self.limits[0].tiers.policy(), request)
    }

    /// Continues with a request that has no key for a limit.
    #[cold]
    fn missing(&self, request: &RequestView<'_>, limit: &BuiltLimit, missing: MissingKey) -> Stage {
        match missing.fault() {
            Fault::PeerAddress => telemetry::notify(Notice::MissingPeerAddress, None),
            Fault::ProxyHeader => telemetry::notify(Notice::UnusableProxyHeader, Some(missing.what())),
            Fault::Server => telemetry::notify(Notice::MissingKey, Some(missing.what())),
            Fault::Client => {}
        }
        match self.on_missing_key {
            OnMissingKey::Shared => {
                // Bytes from before the failure must not separate such requests.
                let mut key = KeyWriter::new();
                key.missing();
                limit.with_key(request, key)
            }
            OnMissingKey::Allow => Stage::Skipped,
            OnMissingKey::Reject => Stage::NoKey(missing),
        }
    }
}

/// A function of its own, because few layers need it.
#[cold]
fn insert_decision(decision: Decision, extensions: &mut Extensions) {
    extensions.insert(decision);
}

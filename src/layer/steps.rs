//! The steps of a request to its decision: keys, quotas, costs, and one decision on all limits.

use std::task::{Context, Poll, ready};

use super::built_limit::{Asked, Begun};
use super::on_missing_key::OnMissingKey;
use super::rules::Rule;
use super::several::{Several, Strikes};
use super::state::LayerState;
use super::waiting;
use crate::key::{Fault, KeyWriter, MissingKey, RequestView};
use crate::store::{BudgetRequest, BudgetResponse, PendingDecisions};
use crate::telemetry::{self, DecisionReason, Notice};

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
            Entry::Rule(rule) => {
                self.observe_rule(rule);
                return if rule == Rule::Exempt { Progress::Unlimited } else { Progress::Denied };
            }
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
        match self.decide(request, several) {
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
    fn decide(&self, request: &RequestView<'_>, several: &mut Several) -> Decide {
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
            false => {
                let pending = match &self.room {
                    None => several.decide(&self.limits, self.has_bans),
                    Some(room) => several.decide_or_wait(&self.limits, room, waiting::longest_wait(room, request)),
                };
                match pending {
                    Some(pending) if self.has_caps => Decide::Pending(several.guard(&self.limits, pending)),
                    Some(pending) => Decide::Pending(pending),
                    None => {
                        if self.has_caps {
                            several.hold_permits(&self.limits);
                        }
                        Decide::Complete
                    }
                }
            }
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
        let (begun, reason) = match begun {
            Begun::NoKey(missing) => (self.missing(request, asked, missing), DecisionReason::MissingKey),
            begun => (begun, DecisionReason::QuotasUnknown),
        };
        let is_enforced = limit.mode.enforces(limit.tiers.policy().name(), &[]);
        let admits = match begun {
            // The request continues with the key of all such requests.
            Begun::Ready | Begun::Pending => return begun,
            Begun::Skipped => true,
            Begun::NoKey(_) => false,
            Begun::Unavailable => limit.admits_on_error,
        };
        self.observe_failure(limit, admits, is_enforced, reason);
        if admits || !is_enforced { Begun::Skipped } else { begun }
    }

    /// Continues when the I/O is complete.
    pub(super) fn poll(&self, progress: &mut Progress, request: &RequestView<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::Looking(several) = progress {
            *progress = ready!(self.poll_lookups(several, request, cx));
        }
        if let Progress::Deciding(several, pending) = progress {
            several.complete(ready!(pending.as_mut().poll(cx)));
            if self.has_caps {
                several.hold_permits(&self.limits);
            }
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
        Poll::Ready(match self.decide(request, several) {
            Decide::Unlimited => Progress::Unlimited,
            Decide::Complete => self.conclude(std::mem::take(several)),
            Decide::Pending(pending) => Progress::Deciding(std::mem::take(several), pending),
        })
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

//! What the services of one layer share, and the way of a request through it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::drain::DrainOptions;
use super::exempt::Exempt;
use super::on_missing_key::OnMissingKey;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::key::{Fault, KeyExtractor, KeyWriter, Lookup, MissingKey, PendingKey, RequestView};
use crate::policy::OnStoreError;
use crate::response::{HeadersToAdd, Refusal, Responder};
use crate::store::{Budget, BudgetRequest, BudgetResponse};
use crate::telemetry::{self, DropCounter, Notice};

pub(super) struct LayerState {
    pub(super) budget: Arc<dyn Budget>,
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) lookup: Option<Lookup>,
    pub(super) responder: Responder,
    pub(super) drain: DrainOptions,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) on_store_error: OnStoreError,
    pub(super) exempt: Exempt,
    pub(super) decision_in_request: bool,
    /// Where the store is this layer's own.
    pub(super) _discards: Option<DropCounter>,
}

/// What becomes of a request.
pub(super) enum Outcome {
    Admitted(Admission),
    Refused(Refusal),
    /// Nothing yet: there is I/O to do first.
    Undecided(Wait),
}

/// What an admitted request carries on.
#[derive(Default)]
pub(super) struct Admission {
    /// What its response gets, if anything.
    pub(super) to_add: Option<HeadersToAdd>,
    /// What the inner service finds in the request's extensions, if that is wanted.
    pub(super) decision: Option<Decision>,
}

/// What a request waits for.
pub(super) enum Wait {
    Key(PendingKey),
    Decision(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>),
}

impl LayerState {
    /// Reads the key and asks its budget.
    #[inline]
    pub(super) fn enter(&self, request: &RequestView<'_>) -> Outcome {
        if self.exempt.covers(request) {
            return Outcome::Admitted(Admission::default());
        }
        let mut key = KeyWriter::new();
        match (self.key.key(request, &mut key), &self.lookup) {
            (Err(missing), _) => self.missing(missing),
            (Ok(()), None) => self.decide(&key),
            (Ok(()), Some(lookup)) => Outcome::Undecided(Wait::Key(lookup.begin(request, key))),
        }
    }

    /// Goes on where the wait is over.
    pub(super) fn poll(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(match wait {
            Wait::Key(key) => match ready!(key.as_mut().poll(cx)) {
                Ok(key) => self.decide(&key),
                Err(missing) => self.missing(missing),
            },
            Wait::Decision(decision) => self.settle(&ready!(decision.as_mut().poll(cx))),
        })
    }

    #[inline]
    fn decide(&self, key: &KeyWriter) -> Outcome {
        match self.budget.decide(BudgetRequest::new(key.as_bytes(), 1)) {
            BudgetResponse::Ready(result) => self.settle(&result),
            BudgetResponse::Pending(pending) => Outcome::Undecided(Wait::Decision(pending)),
        }
    }

    /// What a decision means for the request.
    #[inline]
    fn settle(&self, result: &Result<Decision, StoreError>) -> Outcome {
        match result {
            Ok(decision) if decision.is_allowed() => Outcome::Admitted(Admission {
                to_add: self.responder.admitted(decision),
                decision: self.decision_in_request.then_some(*decision),
            }),
            Ok(decision) => Outcome::Refused(Refusal::Limited(*decision)),
            Err(_) if self.on_store_error == OnStoreError::Allow => Outcome::Admitted(Admission::default()),
            Err(_) => Outcome::Refused(Refusal::Unavailable),
        }
    }

    /// What becomes of a request without a key.
    #[cold]
    fn missing(&self, missing: MissingKey) -> Outcome {
        match missing.fault() {
            Fault::PeerAddress => telemetry::notify(Notice::MissingPeerAddress, None),
            Fault::ProxyHeader => telemetry::notify(Notice::UnusableProxyHeader, Some(missing.what())),
            Fault::Server => telemetry::notify(Notice::MissingKey, Some(missing.what())),
            Fault::Client => {}
        }
        match self.on_missing_key {
            OnMissingKey::Shared => {
                // What was written before the failure must not tell such requests apart.
                let mut key = KeyWriter::new();
                key.missing();
                self.decide(&key)
            }
            OnMissingKey::Allow => Outcome::Admitted(Admission::default()),
            OnMissingKey::Reject => Outcome::Refused(Refusal::missing_key(missing)),
        }
    }
}

impl fmt::Debug for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerState")
            .field("responder", &self.responder)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

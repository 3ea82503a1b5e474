//! The shared state of one layer's services, and the steps of a request.

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
    /// Set if the store belongs only to this layer.
    pub(super) _discards: Option<DropCounter>,
}

/// The outcome of a step of a request.
pub(super) enum Outcome {
    Admitted(Admission),
    Refused(Refusal),
    /// The request is undecided and needs I/O.
    Undecided(Wait),
}

/// The data that an admitted request carries.
#[derive(Default)]
pub(super) struct Admission {
    /// The headers for its response, if any.
    pub(super) to_add: Option<HeadersToAdd>,
    /// The decision for the request's extensions, if configured.
    pub(super) decision: Option<Decision>,
}

/// The I/O that a request waits for.
pub(super) enum Wait {
    Key(PendingKey),
    Decision(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>),
}

impl LayerState {
    /// Reads the key and charges its budget.
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

    /// Continues when the I/O is complete.
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

    /// The outcome of a decision.
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

    /// The outcome for a request without a key.
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
                // Bytes from before the failure must not separate such requests.
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

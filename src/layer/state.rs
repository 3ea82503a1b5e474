//! The shared state of one layer's services, and the steps of a request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Extensions;

use super::drain::DrainOptions;
use super::exempt::Exempt;
use super::on_missing_key::OnMissingKey;
use crate::decision::Decision;
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

/// How far the layer is with a request.
pub(super) enum Progress {
    /// The key is being looked up.
    Key(PendingKey),
    /// The store has decided, or is about to.
    Store(BudgetResponse),
    /// The request is refused, because it has no key.
    NoKey(Fault),
    /// The request is admitted without a decision.
    Unlimited,
}

/// The outcome for a request.
pub(super) enum Outcome<'a> {
    /// Admitted, by the decision if there is one.
    Admitted(Option<&'a Decision>),
    Refused(Refusal<'a>),
}

impl LayerState {
    /// Reads the key and charges its budget.
    #[inline]
    pub(super) fn enter(&self, request: &RequestView<'_>) -> Progress {
        if self.exempt.covers(request) {
            return Progress::Unlimited;
        }
        let mut key = KeyWriter::new();
        match (self.key.key(request, &mut key), &self.lookup) {
            (Err(missing), _) => self.missing(missing),
            (Ok(()), None) => self.decide(&key),
            (Ok(()), Some(lookup)) => Progress::Key(lookup.begin(request, key)),
        }
    }

    /// Continues when the I/O is complete.
    pub(super) fn poll(&self, progress: &mut Progress, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::Key(key) = progress {
            *progress = match ready!(key.as_mut().poll(cx)) {
                Ok(key) => self.decide(&key),
                Err(missing) => self.missing(missing),
            };
        }
        if let Progress::Store(BudgetResponse::Pending(decision)) = progress {
            *progress = Progress::Store(BudgetResponse::Ready(ready!(decision.as_mut().poll(cx))));
        }
        Poll::Ready(())
    }

    /// The outcome, or `None` if the request waits for I/O.
    #[inline]
    pub(super) fn outcome<'a>(&self, progress: &'a Progress) -> Option<Outcome<'a>> {
        Some(match progress {
            Progress::Key(_) | Progress::Store(BudgetResponse::Pending(_)) => return None,
            Progress::Store(BudgetResponse::Ready(Ok(decision))) => match decision.is_allowed() {
                true => Outcome::Admitted(Some(decision)),
                false => Outcome::Refused(Refusal::Limited(decision)),
            },
            Progress::Store(BudgetResponse::Ready(Err(_))) => match self.on_store_error {
                OnStoreError::Allow => Outcome::Admitted(None),
                _ => Outcome::Refused(Refusal::Unavailable),
            },
            Progress::NoKey(fault) => Outcome::Refused(Refusal::MissingKey(*fault)),
            Progress::Unlimited => Outcome::Admitted(None),
        })
    }

    /// Prepares an admitted request, and the headers for its response.
    #[inline]
    pub(super) fn admit(&self, decision: Option<&Decision>, request: &mut Extensions) -> Option<HeadersToAdd> {
        let decision = decision?;
        if self.decision_in_request {
            insert_decision(*decision, request);
        }
        self.responder.admitted(decision)
    }

    #[inline]
    fn decide(&self, key: &KeyWriter) -> Progress {
        Progress::Store(self.budget.decide(BudgetRequest::new(key.as_bytes(), 1)))
    }

    /// Continues with a request without a key.
    #[cold]
    fn missing(&self, missing: MissingKey) -> Progress {
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
            OnMissingKey::Allow => Progress::Unlimited,
            OnMissingKey::Reject => Progress::NoKey(missing.fault()),
        }
    }
}

/// A function of its own, because few layers need it.
#[cold]
fn insert_decision(decision: Decision, extensions: &mut Extensions) {
    extensions.insert(decision);
}

impl fmt::Debug for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerState")
            .field("responder", &self.responder)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

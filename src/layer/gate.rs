//! What the services of one layer share, and the way of a request through it.

use std::fmt;
use std::sync::Arc;

use super::OnMissingKey;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::key::{Fault, KeyExtractor, KeyWriter, MissingKey, RequestView};
use crate::response::{self, Answers, Refusal, Standing};
use crate::store::{Answer, Ask, Budget, OnStoreError};
use crate::telemetry::{self, Notice};

pub(super) struct Gate {
    pub(super) budget: Arc<dyn Budget>,
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) answers: Answers,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) on_store_error: OnStoreError,
    pub(super) exempt_preflight: bool,
}

/// What becomes of a request.
pub(super) enum Passage {
    /// With what its response has to tell, if anything.
    Admitted(Option<Standing>),
    Refused(Refusal),
    /// The store must do I/O first.
    Undecided(Pending),
}

/// A decision that is under way.
pub(super) type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send>>;

impl Gate {
    /// Reads the key and asks its budget.
    #[inline]
    pub(super) fn enter(&self, request: &RequestView<'_>) -> Passage {
        if self.exempt_preflight && response::is_preflight(request.method(), request.headers()) {
            return Passage::Admitted(None);
        }
        let mut key = KeyWriter::new();
        if let Err(missing) = self.key.key(request, &mut key) {
            if let Some(passage) = self.missing(missing) {
                return passage;
            }
            // What was written before the failure must not tell such requests apart.
            key = KeyWriter::new();
            key.missing();
        }
        match self.budget.decide(Ask::new(key.as_bytes(), 1)) {
            Answer::Ready(result) => self.settle(&result),
            Answer::Pending(pending) => Passage::Undecided(pending),
        }
    }

    /// What a decision means for the request.
    #[inline]
    pub(super) fn settle(&self, result: &Result<Decision, StoreError>) -> Passage {
        match result {
            Ok(decision) if decision.is_allowed() => Passage::Admitted(self.answers.standing(decision)),
            Ok(decision) => Passage::Refused(Refusal::Limited(*decision)),
            Err(_) if self.on_store_error == OnStoreError::Admit => Passage::Admitted(None),
            Err(_) => Passage::Refused(Refusal::Unavailable),
        }
    }

    /// What becomes of a request without a key; nothing where it shares a budget.
    #[cold]
    fn missing(&self, missing: MissingKey) -> Option<Passage> {
        match missing.fault() {
            Fault::PeerAddress => telemetry::notify(Notice::MissingPeerAddress),
            Fault::ProxyHeader => telemetry::notify(Notice::UnusableProxyHeader),
            Fault::Server => telemetry::notify(Notice::MissingKey(missing.what())),
            Fault::Client => {}
        }
        match self.on_missing_key {
            OnMissingKey::Shared => None,
            OnMissingKey::Allow => Some(Passage::Admitted(None)),
            OnMissingKey::Reject => Some(Passage::Refused(Refusal::missing_key(missing))),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("answers", &self.answers).field("budget", &self.budget).finish_non_exhaustive()
    }
}

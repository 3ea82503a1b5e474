//! Why a request was refused, and what a handler of refusals is shown of it.

use bytes::Bytes;
use http::Response;

use super::protocol::{Protocol, WireFormat};
use crate::decision::Decision;
use crate::key::{Fault, MissingKey};
use crate::policy::Policy;

/// Why a request was not passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Limited(Decision),
    MissingKey(Fault),
    Unavailable,
}

impl Refusal {
    pub(crate) fn missing_key(missing: MissingKey) -> Self {
        Self::MissingKey(missing.fault())
    }

    pub(super) fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Limited(decision) => Some(decision),
            _ => None,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A limit has no room for it.
    Limited,
    /// It has no key.
    MissingKey,
    /// The store could not decide.
    StoreUnavailable,
}

/// The form of the body of an HTTP refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalBody {
    /// `application/problem+json` (RFC 9457) that names the limits without room.
    #[default]
    Problem,
    /// A short text.
    Text,
    /// Nothing.
    Empty,
}

/// A refusal in full, as [`on_refusal`](crate::RateLimitLayerBuilder::on_refusal) sees it.
#[derive(Clone, Copy, Debug)]
pub struct RefusalContext<'a> {
    pub(super) refusal: &'a Refusal,
    pub(super) policy: &'a Policy,
    pub(super) wire: WireFormat,
    pub(super) response: &'a Response<Bytes>,
}

impl<'a> RefusalContext<'a> {
    /// Why the request was refused.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self.refusal {
            Refusal::Limited(_) => RefusalReason::Limited,
            Refusal::MissingKey(_) => RefusalReason::MissingKey,
            Refusal::Unavailable => RefusalReason::StoreUnavailable,
        }
    }

    /// The decision, where a limit has no room.
    #[must_use]
    pub fn decision(&self) -> Option<&'a Decision> {
        self.refusal.decision()
    }

    /// The limit: its name, quotas and strategy.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The protocol of the answer: [`Protocol::Grpc`], which includes gRPC-Web, or [`Protocol::Http`].
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.wire.is_grpc() { Protocol::Grpc } else { Protocol::Http }
    }

    /// The response that would be sent without a handler; a clone of it is a good start.
    #[must_use]
    pub fn response(&self) -> &'a Response<Bytes> {
        self.response
    }
}

/// A handler of refusals.
pub(crate) type OnRefusal = dyn Fn(&RefusalContext<'_>) -> Response<Bytes> + Send + Sync;

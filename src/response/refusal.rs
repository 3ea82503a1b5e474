//! The reasons for a refusal, and the context that a refusal handler receives.

use bytes::Bytes;
use http::Response;

use super::protocol::{Protocol, WireFormat};
use crate::decision::Decision;
use crate::key::Fault;
use crate::policy::Policy;

/// The reason for a refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal<'a> {
    Limited(&'a Decision),
    MissingKey(Fault),
    Unavailable,
}

impl<'a> Refusal<'a> {
    pub(super) fn decision(self) -> Option<&'a Decision> {
        match self {
            Self::Limited(decision) => Some(decision),
            _ => None,
        }
    }
}

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A limit has no room for the request.
    Limited,
    /// The request has no key.
    MissingKey,
    /// The store could not decide.
    StoreUnavailable,
}

/// The form of the body of an HTTP refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalBody {
    /// `application/problem+json` (RFC 9457), with the names of the limits without room.
    #[default]
    Problem,
    /// A short text.
    Text,
    /// No body.
    Empty,
}

/// The context of a refusal for [`on_refusal`](crate::RateLimitLayerBuilder::on_refusal).
#[derive(Clone, Copy, Debug)]
pub struct RefusalContext<'a> {
    pub(super) refusal: Refusal<'a>,
    pub(super) policy: &'a Policy,
    pub(super) wire: WireFormat,
    pub(super) response: &'a Response<Bytes>,
}

impl<'a> RefusalContext<'a> {
    /// The reason for the refusal.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self.refusal {
            Refusal::Limited(_) => RefusalReason::Limited,
            Refusal::MissingKey(_) => RefusalReason::MissingKey,
            Refusal::Unavailable => RefusalReason::StoreUnavailable,
        }
    }

    /// The decision, if a limit has no room.
    #[must_use]
    pub fn decision(&self) -> Option<&'a Decision> {
        self.refusal.decision()
    }

    /// The limit: its name, quotas and strategy.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The protocol of the response: [`Protocol::Grpc`], which includes gRPC-Web, or [`Protocol::Http`].
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.wire.is_grpc() { Protocol::Grpc } else { Protocol::Http }
    }

    /// The default response. Start from a clone of it.
    #[must_use]
    pub fn response(&self) -> &'a Response<Bytes> {
        self.response
    }
}

/// A refusal handler.
pub(crate) type OnRefusal = dyn Fn(&RefusalContext<'_>) -> Response<Bytes> + Send + Sync;

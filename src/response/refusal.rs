//! The reasons for a refusal, and the context that a refusal handler receives.

use bytes::Bytes;
use http::Response;

use super::protocol::{Protocol, WireFormat};
use super::rendered::Rendered;
use crate::decision::Decision;
use crate::key::{Fault, RequestView};
use crate::policy::Policy;

/// The reason for a refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal<'a> {
    Limited(Limited<'a>),
    MissingKey(Fault),
    Unavailable,
    Denied,
}

/// The limits that refused a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited<'a> {
    /// The limit with the longest wait.
    pub(crate) by: Judged<'a>,
    /// Every limit that clients may know of, the tightest first; empty if the layer has one limit.
    pub(crate) all: &'a [Judged<'a>],
}

/// A limit and its decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) limit: &'a Rendered,
    pub(crate) decision: &'a Decision,
}

impl<'a> Refusal<'a> {
    pub(super) fn limited(self) -> Option<Limited<'a>> {
        match self {
            Self::Limited(limited) => Some(limited),
            _ => None,
        }
    }
}

impl<'a> Limited<'a> {
    /// Every limit that clients may know of, also if it is the only one.
    pub(super) fn each(self) -> impl Iterator<Item = Judged<'a>> {
        let (one, all) = if self.all.is_empty() { (Some(self.by), &[][..]) } else { (None, self.all) };
        one.into_iter().chain(all.iter().copied())
    }
}

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A limit has no room for the request.
    Limited,
    /// The request costs more than a limit ever admits, so no wait helps. That includes every request if the limit is 0.
    ExceedsLimit,
    /// The key is banned after too many refusals; see [`Limit::ban`](crate::Limit::ban).
    Banned,
    /// Too many requests of the key are in flight; see [`Limit::in_flight`](crate::Limit::in_flight).
    InFlight,
    /// The request has no key.
    MissingKey,
    /// The store could not decide.
    StoreUnavailable,
    /// The request is on a deny list.
    Denied,
}

/// The context of a refusal for [`on_refusal`](crate::RateLimitLayerBuilder::on_refusal).
#[derive(Clone, Copy, Debug)]
pub struct RefusalContext<'a> {
    pub(super) refusal: Refusal<'a>,
    pub(super) policy: &'a Policy,
    pub(super) wire: WireFormat,
    pub(super) request: RequestView<'a>,
    pub(super) response: &'a Response<Bytes>,
}

impl<'a> RefusalContext<'a> {
    /// The reason for the refusal.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self.refusal {
            Refusal::Limited(limited) if limited.by.limit.is_ban => RefusalReason::Banned,
            Refusal::Limited(limited) if limited.by.limit.is_cap => RefusalReason::InFlight,
            Refusal::Limited(limited) if limited.by.decision.never_fits() => RefusalReason::ExceedsLimit,
            Refusal::Limited(_) => RefusalReason::Limited,
            Refusal::MissingKey(_) => RefusalReason::MissingKey,
            Refusal::Unavailable => RefusalReason::StoreUnavailable,
            Refusal::Denied => RefusalReason::Denied,
        }
    }

    /// The decision, if a limit has no room. If several have none, it is that of the limit with the longest wait.
    #[must_use]
    pub fn decision(&self) -> Option<&'a Decision> {
        self.refusal.limited().map(|limited| limited.by.decision)
    }

    /// The limit of the [`decision`](Self::decision): its name, quotas and strategy. For another reason, it is the
    /// layer's first limit.
    #[must_use]
    pub fn policy(&self) -> &'a Policy {
        self.refusal.limited().map_or(self.policy, |limited| limited.by.limit.policy())
    }

    /// Each limit with its decision, the tightest first, if a limit has no room. Limits that do not refuse requests are
    /// not among them.
    pub fn decisions(&self) -> impl Iterator<Item = (&'a Policy, &'a Decision)> + use<'a> {
        let limited = self.refusal.limited();
        limited.into_iter().flat_map(Limited::each).map(|judged| (judged.limit.policy(), judged.decision))
    }

    /// The refused request, without its body.
    #[must_use]
    pub fn request(&self) -> RequestView<'a> {
        self.request
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

//! The events of a key state, and the actions that they require.

use super::limit_set::LimitSet;
use crate::decision::Decision;
use crate::engine::Outcome;
use crate::script::{Ask, LeaseId, SyncReply, SyncRequest};

/// A request for units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) cost: u64,
    pub(crate) limits: LimitSet<'a>,
    /// Whether the rate already includes this request.
    pub(crate) is_retry: bool,
}

/// The result of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Decided(Decision),
    /// The request is decided from the lease of this id, which runs low.
    DecidedLow(Decision, LeaseId),
    /// The request needs a sync, whose reply decides it.
    Sync,
    /// A sync is in flight, for at most this number of milliseconds.
    Wait(u64),
    /// Redis must decide this request alone.
    AskAlone,
}

/// A call to Redis: when it was sent, and how often the key had been changed through the API before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) sent: u64,
    pub(crate) changes: u32,
    /// Whether the call contains one request alone, so that the reply carries no information about leases.
    pub(crate) is_alone: bool,
}

/// A sync in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) id: LeaseId,
    pub(crate) asked: Asked,
}

/// A reply of Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The server's time.
    pub(crate) now_ms: u64,
    /// The request in the call, and its outcome.
    pub(crate) outcome: Option<(Ask, Outcome)>,
    pub(crate) reply: SyncReply,
}

/// The consequence of a reply.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Redis has lost the key: the driver must send this request instead.
    Resubmit {
        request: SyncRequest,
        has_lost_units: bool,
    },
    Done {
        decision: Option<Decision>,
        wake: Option<Wake>,
    },
    /// The reply belongs to a sync that another one has replaced.
    Stale,
}

/// When to process a lease again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) at: u64,
    pub(crate) id: LeaseId,
}

/// What to do with a lease, or with reports, at their due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerAction {
    Nothing,
    /// Process it again at that instant.
    Later(u64),
    /// Sync it, for another lease if `wants` is true.
    Sync {
        wants: bool,
    },
}

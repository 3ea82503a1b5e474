//! What a driver tells a key's state, and what it has to do then.

use super::limit_set::LimitSet;
use crate::decision::Decision;
use crate::engine::Outcome;
use crate::script::{Ask, LeaseId, SyncReply, SyncRequest};

/// A request for units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) cost: u64,
    pub(crate) limits: LimitSet<'a>,
    /// Whether it was counted before.
    pub(crate) is_retry: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Decided(Decision),
    /// It is decided, from the lease of this name, which runs low.
    DecidedLow(Decision, LeaseId),
    /// A sync has to decide.
    Sync,
    /// A sync is under way, for so many more milliseconds at most.
    Wait(u64),
    /// Redis has to decide this request alone.
    AskAlone,
}

/// A question that was sent: when, and how often the key had been changed through the API before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) sent: u64,
    pub(crate) changes: u32,
    /// Whether it asks for one request alone, so that the answer says nothing of leases.
    pub(crate) is_alone: bool,
}

/// A sync under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    pub(crate) id: LeaseId,
    pub(crate) asked: Asked,
}

/// What Redis has answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The server's time.
    pub(crate) now_ms: u64,
    /// The request that went along, and its outcome.
    pub(crate) outcome: Option<(Ask, Outcome)>,
    pub(crate) reply: SyncReply,
}

/// What follows from an answer.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Redis has lost the key: this is to be sent in the place of what was.
    Resubmit {
        request: SyncRequest,
        has_lost_units: bool,
    },
    Done {
        decision: Option<Decision>,
        wake: Option<Wake>,
    },
    /// The answer is of a sync that another one has replaced.
    Stale,
}

/// When a lease is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) at: u64,
    pub(crate) id: LeaseId,
}

/// What is to become of a lease, or of reports, at their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerAction {
    Nothing,
    /// To be looked at again at that instant.
    Later(u64),
    /// To be synced, for another lease if that is wanted.
    Sync {
        wants: bool,
    },
}

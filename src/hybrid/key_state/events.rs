//! What a driver tells a key's state, and what it has to do then.

use super::super::limit_set::LimitSet;
use crate::decision::Decision;
use crate::engine::Outcome;
use crate::redis::script::{Ask, LeaseId, SyncReply, SyncRequest};
use crate::scale::Scale;

/// What holds for all keys of one store.
#[derive(Clone, Copy, Debug)]
pub(in crate::hybrid) struct StoreParams {
    /// Of this instance's clock, with its lag.
    pub(in crate::hybrid) scale: Scale,
    /// Of the server's clock.
    pub(in crate::hybrid) server: Scale,
    pub(in crate::hybrid) lag_ms: u64,
    /// How often a key that is in use is synced at least.
    pub(in crate::hybrid) interval_ms: u64,
    /// How long a question may be under way.
    pub(in crate::hybrid) deadline_ms: u64,
}

/// A request for units.
#[derive(Clone, Copy, Debug)]
pub(in crate::hybrid) struct Request<'a> {
    pub(in crate::hybrid) cost: u64,
    pub(in crate::hybrid) limits: LimitSet<'a>,
    /// Whether it was counted before.
    pub(in crate::hybrid) is_retry: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::hybrid) enum Action {
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
pub(in crate::hybrid) struct Asked {
    pub(in crate::hybrid) sent: u64,
    pub(in crate::hybrid) changes: u32,
    /// Whether it asks for one request alone, so that the answer says nothing of leases.
    pub(in crate::hybrid) is_alone: bool,
}

/// A sync under way.
#[derive(Clone, Copy, Debug)]
pub(in crate::hybrid) struct RoundTrip {
    pub(in crate::hybrid) id: LeaseId,
    pub(in crate::hybrid) asked: Asked,
}

/// What Redis has answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::hybrid) struct Answer {
    /// The server's time.
    pub(in crate::hybrid) now_ms: u64,
    /// The request that went along, and its outcome.
    pub(in crate::hybrid) outcome: Option<(Ask, Outcome)>,
    pub(in crate::hybrid) reply: SyncReply,
}

/// What follows from an answer.
#[derive(Debug)]
pub(in crate::hybrid) enum Reaction {
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
pub(in crate::hybrid) struct Wake {
    pub(in crate::hybrid) at: u64,
    pub(in crate::hybrid) id: LeaseId,
}

/// What is to become of a lease, or of reports, at their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hybrid) enum TimerAction {
    Nothing,
    /// To be looked at again at that instant.
    Later(u64),
    /// To be synced, for another lease if that is wanted.
    Sync {
        wants: bool,
    },
}

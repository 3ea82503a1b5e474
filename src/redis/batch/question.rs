//! What is asked of Redis about one key, and the part of an answer that is its own.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::redis::transport::Failure;
use crate::script::{Ask, EncodedPolicy, ScriptReply, SyncReply};

/// One question, on its way.
pub(crate) struct KeyRequest {
    pub(crate) policy: EncodedPolicy,
    pub(crate) key: Box<[u8]>,
    pub(crate) body: Payload,
}

/// What is asked of a key.
pub(crate) enum Payload {
    /// A decision; several on one key go together.
    Ask(Ask),
    /// What one instance reports and wants, with its asks.
    Part { bytes: Box<[u8]>, asks: usize },
}

/// The answer of a script call, and which part of it is whose.
#[derive(Clone)]
pub(crate) struct KeyReply {
    pub(super) answer: Arc<Vec<u8>>,
    /// The length of all answers of the call, and where in them this one stands.
    pub(super) total: usize,
    pub(super) part: Range<usize>,
    /// When the call was about to be sent, and when its answer was there.
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl Payload {
    /// Appends what is sent.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ask(ask) => ask.write(out),
            Self::Part { bytes, .. } => out.extend_from_slice(bytes),
        }
    }

    /// How many bytes answer it.
    pub(super) fn answer(&self) -> usize {
        match self {
            Self::Ask(_) => ScriptReply::RECORD,
            Self::Part { asks, .. } => asks * ScriptReply::RECORD + SyncReply::BYTES,
        }
    }
}

impl KeyReply {
    pub(crate) fn read(&self) -> Result<ScriptReply<'_>, Failure> {
        ScriptReply::read(&self.answer, self.total, self.part.clone()).ok_or_else(Failure::unreadable)
    }
}

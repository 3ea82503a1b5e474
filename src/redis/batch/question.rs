//! A request about one key, and its part of a reply.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::redis::transport::Failure;
use crate::script::{Ask, EncodedPolicy, ScriptReply, SyncReply};

/// One request in flight.
pub(crate) struct KeyRequest {
    pub(crate) policy: EncodedPolicy,
    pub(crate) key: Box<[u8]>,
    pub(crate) body: Payload,
}

/// The content of a request.
pub(crate) enum Payload {
    /// A decision; several decisions on one key share a step.
    Ask(Ask),
    /// The report and the demand of one instance, with its requests.
    Part { bytes: Box<[u8]>, asks: usize },
}

/// The reply to a script call, and the place of one request in it.
#[derive(Clone)]
pub(crate) struct KeyReply {
    pub(super) answer: Arc<Vec<u8>>,
    /// The length of all replies of the call, and the position of this one.
    pub(super) total: usize,
    pub(super) part: Range<usize>,
    /// The times just before the call was sent, and after its reply arrived.
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl Payload {
    /// Appends the encoded request.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ask(ask) => ask.write(out),
            Self::Part { bytes, .. } => out.extend_from_slice(bytes),
        }
    }

    /// The length of the reply in bytes.
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

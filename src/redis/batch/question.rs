//! A request about one key, or about several keys together, and its part of a reply.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::redis::transport::Failure;
use crate::script::{Ask, EncodedPolicy, JointAsk, ScriptReply, SyncReply};

/// One request in flight.
pub(super) enum Question {
    Key(KeyRequest),
    /// A request with several limits, in one partition. It has a key for each limit.
    Joint(Box<[JointKey]>),
}

/// A request about one key.
pub(crate) struct KeyRequest {
    pub(crate) policy: EncodedPolicy,
    pub(crate) key: Box<[u8]>,
    pub(crate) body: Payload,
}

/// One key of a request with several limits.
pub(crate) struct JointKey {
    pub(crate) policy: EncodedPolicy,
    pub(crate) name: Box<[u8]>,
    pub(crate) ask: JointAsk,
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

impl Question {
    /// A key of the request, which shows its partition.
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Key(request) => &request.key,
            Self::Joint(keys) => keys.first().map_or(&[], |key| &key.name),
        }
    }
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

/// The encoded asks of one request.
pub(super) fn joint_bodies(keys: &[JointKey]) -> impl Iterator<Item = Vec<u8>> {
    keys.iter().enumerate().map(|(index, key)| key.ask.bytes(index + 1 == keys.len()))
}

/// The arguments of the script, on the clock of the server.
pub(super) fn joint_arguments<'a>(keys: impl IntoIterator<Item = (&'a EncodedPolicy, &'a Vec<u8>)>) -> Vec<&'a [u8]> {
    let of_key = |(policy, body): (&'a EncodedPolicy, &'a Vec<u8>)| [policy.as_bytes(), body.as_slice()];
    std::iter::once(&b""[..]).chain(keys.into_iter().flat_map(of_key)).collect()
}

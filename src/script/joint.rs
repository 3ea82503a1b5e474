//! The encoding of a request with several limits.

use super::wire::Ask;

/// A request's ask to one of its limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JointAsk {
    pub(crate) ask: Ask,
    /// Whether a refusal by this limit refuses the request.
    pub(crate) is_enforced: bool,
    /// Whether a value of another type refuses the request.
    pub(crate) is_needed: bool,
}

impl JointAsk {
    /// Encodes the ask; `is_last` ends the request.
    pub(crate) fn bytes(&self, is_last: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(Ask::BYTES + 3);
        self.ask.write(&mut out);
        out.extend([self.is_enforced, self.is_needed, is_last].map(u8::from));
        out
    }
}

//! The charges of an admitted request until its response has settled them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use super::handle::RateLimitHandle;
use super::settle::{BodyEnd, ResponseView};

/// The charges of an admitted request that wait for its response.
pub(super) struct Unsettled(RateLimitHandle);

impl Unsettled {
    pub(super) fn new(limits: RateLimitHandle) -> Self {
        Self(limits)
    }

    /// Settles what depends on the head of the response. Returns what depends on the end of its body.
    pub(super) fn settle(&self, response: &ResponseView<'_>) -> Option<Tail> {
        self.0.settle(|settles, charge| {
            if let Some(head) = &settles.head {
                head(charge, response);
            }
        });
        let waits = self.0.settles().any(|settles| settles.end.is_some());
        waits.then(|| Tail::new(self.0.clone(), response))
    }
}

/// Watches the body of a response, and settles its charges once, when it ends or is dropped.
pub(super) struct Tail {
    limits: RateLimitHandle,
    status: StatusCode,
    grpc_status: Option<u16>,
    bytes: u64,
    /// Whether a reader saw that nothing follows. It may then drop the body without a further poll.
    is_ended: AtomicBool,
    is_settled: bool,
}

impl Tail {
    fn new(limits: RateLimitHandle, response: &ResponseView<'_>) -> Self {
        let (status, grpc_status) = (response.status(), response.grpc_status());
        Self { limits, status, grpc_status, bytes: 0, is_ended: AtomicBool::new(false), is_settled: false }
    }

    /// Counts a frame.
    pub(super) fn see(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.settle(Some(trailers), true);
        }
    }

    /// Notes that nothing follows.
    pub(super) fn ended(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
    }

    /// Settles the charges, unless they are settled.
    pub(super) fn settle(&mut self, trailers: Option<&HeaderMap>, is_complete: bool) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let Self { status, grpc_status, bytes, .. } = *self;
        let end = BodyEnd { status, grpc_status, trailers, bytes, is_complete };
        self.limits.settle(|settles, charge| {
            if let Some(at_end) = &settles.end {
                at_end(charge, &end);
            }
        });
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let is_complete = self.is_ended.load(Ordering::Relaxed);
        // A panic here could end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| self.settle(None, is_complete)));
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("bytes", &self.bytes).field("is_settled", &self.is_settled).finish_non_exhaustive()
    }
}

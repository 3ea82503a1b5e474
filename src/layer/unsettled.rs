//! The charges of an admitted request until its response has settled them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::body_error::RateLimitBodyError;
use super::handle::RateLimitHandle;
use super::in_flight::permits::{Permits, WeakPermits};
use super::meter::{Meter, Polled};
use super::settle::{BodyEnd, ResponseView};
use super::state::LayerState;

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
        let meter = Meter::new(self.0.metered(), response);
        let waits = meter.is_some() || self.0.settles().any(|settles| settles.end.is_some());
        waits.then(|| Tail::new(self.0.clone(), response, meter))
    }
}

/// Watches the body of a response. When it ends or is dropped, it settles the charges and returns the permits, once.
pub(super) struct Tail {
    limits: RateLimitHandle,
    meter: Option<Meter>,
    status: StatusCode,
    grpc_status: Option<u16>,
    bytes: u64,
    /// Whether a reader saw that nothing follows. It may then drop the body without a further poll.
    is_ended: AtomicBool,
    is_settled: bool,
    /// Returned as soon as a reader sees the end, through a shared reference.
    permits: Mutex<Permits>,
}

impl Tail {
    fn new(limits: RateLimitHandle, response: &ResponseView<'_>, meter: Option<Meter>) -> Self {
        let (status, grpc_status) = (response.status(), response.grpc_status());
        let (is_ended, permits) = (AtomicBool::new(false), Mutex::default());
        Self { limits, meter, status, grpc_status, bytes: 0, is_ended, is_settled: false, permits }
    }

    /// A tail that settles nothing.
    pub(super) fn without_charges(layer: &Arc<LayerState>, response: &ResponseView<'_>) -> Self {
        Self::new(RateLimitHandle::new(layer, [], WeakPermits::default()), response, None)
    }

    /// Holds permits until the end of the body.
    pub(super) fn holding(mut self, permits: Permits) -> Self {
        self.permits = Mutex::new(permits);
        self
    }

    fn release(&self) {
        let permits = std::mem::take(&mut *self.permits.lock().unwrap_or_else(PoisonError::into_inner));
        drop(permits);
    }

    /// Polls the body, and counts its frames.
    pub(super) fn poll_frame<B: Body<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Polled<B::Error> {
        let frame = match &mut self.meter {
            Some(meter) => ready!(meter.poll_frame(body.as_mut(), cx)),
            None => ready!(body.as_mut().poll_frame(cx)).map(|frame| frame.map_err(RateLimitBodyError::Inner)),
        };
        match &frame {
            Some(Ok(frame)) => {
                self.see(frame);
                if self.is_end_stream(&*body) {
                    self.settle(None, !self.is_limited());
                }
            }
            Some(Err(_)) => self.settle(None, false),
            None => self.settle(None, !self.is_limited()),
        }
        Poll::Ready(frame)
    }

    /// Whether a limit ended the response before its end.
    fn is_limited(&self) -> bool {
        self.meter.as_ref().is_some_and(Meter::is_over)
    }

    /// Whether nothing follows. A reader that knows may drop the body without a further poll.
    pub(super) fn is_end_stream<B: Body<Data = Bytes>>(&self, body: &B) -> bool {
        match &self.meter {
            Some(meter) if meter.is_over() => true,
            Some(meter) => meter.is_idle() && body.is_end_stream(),
            None => body.is_end_stream(),
        }
    }

    /// The size of the rest of the response.
    pub(super) fn size_hint(&self, inner: SizeHint) -> SizeHint {
        self.meter.as_ref().map_or(inner, |meter| meter.size_hint(&inner))
    }

    /// Counts a frame.
    fn see(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.settle(Some(trailers), !self.is_limited());
        }
    }

    /// Notes that nothing follows.
    pub(super) fn ended(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
        self.release();
    }

    /// Settles the charges, unless they are settled.
    pub(super) fn settle(&mut self, trailers: Option<&HeaderMap>, is_complete: bool) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        self.meter.iter_mut().for_each(Meter::close);
        self.release();
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

//! Reads and discards the body of a refused HTTP/1 request, so that the refusal arrives.
//!
//! If part of a request body is unread when the response ends, an HTTP/1 server closes the connection (RFC 9112,
//! section 9.6). A client that is still sending gets a reset and loses the response. A proxy then responds with 502
//! and counts a server failure. HTTP/2 ends one stream and keeps the connection, so the layer reads nothing there.

use std::any::{Any, TypeId};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_timer::Delay;
use http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, Version};
use http_body::Body;

use crate::key::content_length;
use crate::telemetry::{self, Notice};

/// The default maximum number of bytes to read.
const MOST_BYTES: u64 = 32 << 20;
/// The default maximum time for reading.
const MOST_TIME: Duration = Duration::from_secs(30);
/// The number of frames to read before other tasks run.
const FRAMES_PER_POLL: usize = 32;

/// How a layer handles the bodies of refused requests.
#[derive(Clone, Debug)]
pub(super) struct DrainOptions {
    pub(super) most_bytes: u64,
    pub(super) within: Duration,
    bodies: Vec<BodyType>,
}

/// A body type that the layer can read.
#[derive(Clone, Copy, Debug)]
struct BodyType {
    id: TypeId,
    is_at_end: fn(&dyn Any) -> bool,
    open: fn(Box<dyn Any>) -> Option<OpenBody>,
}

type OpenBody = Pin<Box<dyn Discard + Send>>;

/// A body whose frames are counted and discarded.
trait Discard {
    /// The length of the next frame, or `None` at the end or after an error.
    fn poll_discard(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>>;
}

impl<B: Body> Discard for B {
    fn poll_discard(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.poll_frame(cx).map(|frame| {
            let frame = frame?.ok()?;
            Some(frame.data_ref().map_or(0, |data| data.remaining() as u64))
        })
    }
}

impl Default for DrainOptions {
    fn default() -> Self {
        let options = Self { most_bytes: MOST_BYTES, within: MOST_TIME, bodies: Vec::new() };
        #[cfg(feature = "axum")]
        let options = options.with_body::<axum::body::Body>();
        // gRPC-Web over HTTP/1.1 sends this body type.
        #[cfg(feature = "tonic")]
        let options = options.with_body::<tonic::body::Body>();
        options
    }
}

impl DrainOptions {
    /// Adds a body type that the layer can read.
    pub(super) fn with_body<B: Body + Send + 'static>(mut self) -> Self {
        let id = TypeId::of::<B>();
        if self.bodies.iter().all(|known| known.id != id) {
            self.bodies.push(BodyType {
                id,
                is_at_end: |body| body.downcast_ref::<B>().is_some_and(Body::is_end_stream),
                open: |body| Some(Box::into_pin(body.downcast::<B>().ok()?) as OpenBody),
            });
        }
        self
    }

    /// Decides whether to read the body of a refused request before the response.
    #[inline]
    pub(super) fn begin<B: 'static>(&self, head: &Parts, body: B) -> Unread {
        // HTTP/2 and later end the stream and keep the connection.
        if head.version >= Version::HTTP_2 {
            return Unread::Nothing;
        }
        self.begin_http1(&head.headers, body)
    }

    fn begin_http1<B: 'static>(&self, headers: &HeaderMap, body: B) -> Unread {
        let Some(known) = self.bodies.iter().find(|known| known.id == TypeId::of::<B>()) else {
            if content_length(headers) > Some(0) || headers.contains_key(TRANSFER_ENCODING) {
                telemetry::notify(Notice::UnreadBody, None);
            }
            return Unread::Nothing;
        };
        if (known.is_at_end)(&body) {
            return Unread::Nothing;
        }
        // A client that waits for 100 Continue has sent nothing, and reading would ask it to send.
        let is_long = self.most_bytes == 0 || content_length(headers) > Some(self.most_bytes);
        if is_long || headers.contains_key(EXPECT) {
            return Unread::Abandoned;
        }
        match (known.open)(Box::new(body)) {
            Some(body) => Unread::Draining(Drain { body, left: self.most_bytes, timer: Delay::new(self.within) }),
            None => Unread::Nothing,
        }
    }
}

/// The state of a refused request's body.
pub(super) enum Unread {
    /// The layer need not or cannot read the body.
    Nothing,
    /// The body stays unread, so the server closes the connection.
    Abandoned,
    /// The layer reads the body before it sends the refusal.
    Draining(Drain),
}

/// A body that the layer reads to its end or its bound.
pub(super) struct Drain {
    body: OpenBody,
    left: u64,
    timer: Delay,
}

impl Drain {
    /// Continues to read. Returns whether the end was reached.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        for _ in 0..FRAMES_PER_POLL {
            match self.body.as_mut().poll_discard(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(length)) => match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => return Poll::Ready(false),
                },
                Poll::Pending => return Pin::new(&mut self.timer).poll(cx).map(|()| false),
            }
        }
        if Pin::new(&mut self.timer).poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Announces that the connection closes after this response (RFC 9112, section 9.6).
pub(super) fn announce_close(response: &mut Response<Bytes>) {
    response.headers_mut().insert(CONNECTION, const { HeaderValue::from_static("close") });
}

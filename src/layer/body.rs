use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::body_error::RateLimitBodyError;
use super::unsettled::Tail;

pin_project! {
    /// The response body of a limited service: the inner service's body, or that of a refusal.
    #[derive(Debug)]
    pub struct RateLimitBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        // Its frames are charged, or its end settles charges.
        Watched { #[pin] body: B, tail: Box<Tail> },
        // Empty after it is read.
        Full { data: Bytes },
    }
}

impl<B> RateLimitBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(super) fn watched(body: B, tail: Tail) -> Self {
        Self { kind: Kind::Watched { body, tail: Box::new(tail) } }
    }

    pub(super) fn full(data: Bytes) -> Self {
        Self { kind: Kind::Full { data } }
    }
}

/// An empty body. A CORS layer outside this one needs it for preflight responses.
impl<B> Default for RateLimitBody<B> {
    fn default() -> Self {
        Self::full(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for RateLimitBody<B> {
    type Data = Bytes;
    type Error = RateLimitBodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(RateLimitBodyError::Inner)))
            }
            KindProj::Watched { body, tail } => tail.poll_frame(body, cx),
            KindProj::Full { data } if data.is_empty() => Poll::Ready(None),
            KindProj::Full { data } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(data))))),
        }
    }

    /// This is also correct before the first poll: a gRPC refusal must end its stream with its headers.
    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Watched { body, tail } => {
                let is_ended = tail.is_end_stream(body);
                if is_ended {
                    tail.ended();
                }
                is_ended
            }
            Kind::Full { data } => data.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Watched { body, tail } => tail.size_hint(body.size_hint()),
            Kind::Full { data } => SizeHint::with_exact(data.len() as u64),
        }
    }
}

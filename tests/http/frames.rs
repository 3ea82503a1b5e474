//! Responses whose parts come after waits, for tests that drop them between two polls.
#![cfg(feature = "axum")]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;

/// A future that is pending a few times before it is ready.
pub(crate) struct After(pub(crate) u32);

impl Future for After {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A body of some frames of this data, each after a wait, with trailers or without.
pub(crate) fn frames(count: usize, data: &'static [u8], with_trailers: bool) -> Body {
    let data = stream::iter(0..count).then(move |_| async move {
        After(1).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(data)))
    });
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let trailers = stream::iter(with_trailers.then_some(Ok(Frame::trailers(trailers))));
    Body::new(StreamBody::new(data.chain(trailers)))
}

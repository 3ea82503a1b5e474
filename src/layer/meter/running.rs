//! The body of a metered response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};

use super::account::{Account, Paid};
use super::at_limit::AtLimit;
use super::metering::{MeteredLimit, Units};
use crate::layer::body_error::RateLimitBodyError;
use crate::layer::settle::ResponseView;

/// The status of a gRPC stream that the limit ends.
const RESOURCE_EXHAUSTED: HeaderValue = HeaderValue::from_static("8");

/// Passes on the frames of a body that are paid.
pub(in crate::layer) struct Meter {
    accounts: Box<[Account]>,
    /// Data that is not paid.
    data: Option<Bytes>,
    end: Ending,
    stage: Stage,
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its next frame does not fit, and the reader may send earlier ones.
    Ending,
    Over,
}

/// How a response ends when its next frame does not fit.
enum Ending {
    Grpc,
    Error,
    Data(Bytes),
}

/// What a poll of a body returns.
pub(in crate::layer) type Polled<E> = Poll<Option<Result<Frame<Bytes>, RateLimitBodyError<E>>>>;

impl Meter {
    /// A meter for a response; `None` if no limit meters it.
    pub(in crate::layer) fn new(
        limits: impl Iterator<Item = MeteredLimit>,
        response: &ResponseView<'_>,
    ) -> Option<Self> {
        let accounts: Box<[Account]> = limits.map(Account::new).collect();
        let first = accounts.first()?;
        let is_grpc = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
            value.as_bytes().starts_with(b"application/grpc") && !value.as_bytes().starts_with(b"application/grpc-web")
        });
        let last = match &first.metering().at_limit {
            AtLimit::EndWith(data) if !response.headers().contains_key(header::CONTENT_LENGTH) => Some(data),
            _ => None,
        };
        let end = match last {
            _ if is_grpc => Ending::Grpc,
            Some(data) => Ending::Data(data.clone()),
            None => Ending::Error,
        };
        Some(Self { accounts, data: None, end, stage: Stage::Open })
    }

    /// Polls a body for its next frame, and pays for it.
    pub(in crate::layer) fn poll_frame<B>(&mut self, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Polled<B::Error>
    where
        B: Body<Data = Bytes>,
    {
        match self.stage {
            Stage::Open => {}
            Stage::Ending => return Poll::Ready(self.finish()),
            Stage::Over => return Poll::Ready(None),
        }
        if self.data.is_none() {
            match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.owe(data),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(RateLimitBodyError::Inner(error)))),
                None => return Poll::Ready(None),
            }
        }
        let may_split = matches!(&*self.accounts, [only] if matches!(only.metering().units, Units::Bytes));
        for account in &mut self.accounts {
            match ready!(account.poll_pay(may_split, cx)) {
                Paid::All => {}
                Paid::Part(bytes) => {
                    let piece = self.data.as_mut().map(|data| data.split_to(bytes as usize));
                    return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
                }
                Paid::Nothing => {
                    account.watch().response_cut();
                    return self.end(cx);
                }
            }
        }
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn owe(&mut self, data: Bytes) {
        for account in &mut self.accounts {
            let units = account.metering().units.count(&data);
            account.owe(units);
        }
        self.data = Some(data);
    }

    /// Ends the response, because its next frame does not fit.
    ///
    /// A server drops what it has not written when a body fails. So the error waits for one poll, in which hyper writes.
    #[cold]
    fn end<E>(&mut self, cx: &Context<'_>) -> Polled<E> {
        self.close();
        if matches!(self.end, Ending::Error) {
            self.stage = Stage::Ending;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.finish())
    }

    /// The last frame.
    fn finish<E>(&mut self) -> Option<Result<Frame<Bytes>, RateLimitBodyError<E>>> {
        (self.stage, self.data) = (Stage::Over, None);
        match &mut self.end {
            Ending::Grpc => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", RESOURCE_EXHAUSTED);
                trailers.insert("grpc-message", HeaderValue::from_static("rate limit exceeded"));
                Some(Ok(Frame::trailers(trailers)))
            }
            Ending::Error => Some(Err(RateLimitBodyError::LimitExceeded)),
            Ending::Data(data) if data.is_empty() => None,
            Ending::Data(data) => Some(Ok(Frame::data(std::mem::take(data)))),
        }
    }

    /// Returns what the response has not used.
    pub(in crate::layer) fn close(&mut self) {
        self.accounts = Box::default();
    }

    /// Whether the limit ended the response.
    pub(in crate::layer) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether nothing follows the frames of the body.
    pub(in crate::layer) fn is_idle(&self) -> bool {
        self.data.is_none()
    }

    /// The sizes that the response may have.
    pub(in crate::layer) fn size_hint(&self, inner: &SizeHint) -> SizeHint {
        let mut hint = SizeHint::new();
        let waiting = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let last = if let Ending::Data(data) = &self.end { data.len() as u64 } else { 0 };
        if let Some(most) = inner.upper().and_then(|most| most.checked_add(waiting + last)) {
            hint.set_upper(if self.is_over() { 0 } else { most });
        }
        hint
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("stage", &self.stage).finish_non_exhaustive()
    }
}

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::RateLimitBody;
use super::drain::{Drain, Unread, announce_close};
use super::gate::{Gate, Passage, Wait};
use crate::response::Standing;

pin_project! {
    /// The response of a [`RateLimit`](super::RateLimit) service.
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the inner call, or the lookup of the key; what was charged stays charged.
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, Req> {
        Admitted { #[pin] future: F, tell: Option<Tell> },
        Refused { response: Option<Response<Bytes>> },
        // With the rest of the request's body, which is read first.
        Draining { refusal: Option<Box<Draining>> },
        // On the heap, so that a future that waits for nothing stays small.
        Undecided { undecided: Option<Box<Undecided<S, Req>>> },
    }
}

/// What the response has to tell, and who tells it; nothing with headers off.
type Tell = (Standing, Arc<Gate>);

/// A refusal that waits until its request's body is read.
struct Draining {
    drain: Drain,
    response: Response<Bytes>,
}

/// A request that waits for its key or its decision, with the service that was ready for it.
struct Undecided<S, Req> {
    wait: Wait,
    ready: S,
    request: Req,
    gate: Arc<Gate>,
}

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    pub(super) fn admitted(future: S::Future, tell: Option<Tell>) -> Self {
        Self { state: State::Admitted { future, tell } }
    }

    pub(super) fn refused(response: Response<Bytes>, unread: Unread) -> Self {
        Self { state: State::refused(response, unread) }
    }

    pub(super) fn undecided(wait: Wait, ready: S, request: Req, gate: Arc<Gate>) -> Self {
        Self { state: State::Undecided { undecided: Some(Box::new(Undecided { wait, ready, request, gate })) } }
    }
}

impl<F, S, Req> State<F, S, Req> {
    fn refused(mut response: Response<Bytes>, unread: Unread) -> Self {
        match unread {
            Unread::Draining(drain) => return Self::Draining { refusal: Some(Box::new(Draining { drain, response })) },
            Unread::Abandoned => announce_close(&mut response),
            Unread::Nothing => {}
        }
        Self::Refused { response: Some(response) }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, Request<ReqBody>>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: 'static,
{
    type Output = Result<Response<RateLimitBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Admitted { future, tell } => {
                    let tell = |mut response: Response<ResBody>| {
                        if let Some((standing, gate)) = tell {
                            gate.answers.tell(standing, response.status(), response.headers_mut());
                        }
                        response.map(RateLimitBody::inner)
                    };
                    return future.poll(cx).map_ok(tell);
                }
                StateProj::Refused { response } => {
                    let Some(response) = response.take() else { return Poll::Pending };
                    return Poll::Ready(Ok(response.map(RateLimitBody::full)));
                }
                StateProj::Draining { refusal } => {
                    let Some(draining) = refusal else { return Poll::Pending };
                    let is_read = ready!(draining.drain.poll(cx));
                    let Some(draining) = refusal.take() else { return Poll::Pending };
                    State::refused(draining.response, if is_read { Unread::Nothing } else { Unread::Abandoned })
                }
                StateProj::Undecided { undecided } => {
                    let Some(waiting) = undecided else { return Poll::Pending };
                    match ready!(waiting.gate.poll(&mut waiting.wait, cx)) {
                        Passage::Admitted(standing) => match undecided.take().map(|waiting| *waiting) {
                            Some(Undecided { mut ready, request, gate, .. }) => State::Admitted {
                                future: ready.call(request),
                                tell: standing.map(|standing| (standing, gate)),
                            },
                            None => return Poll::Pending,
                        },
                        Passage::Refused(refusal) => {
                            let response = waiting.gate.answers.refuse(&refusal, waiting.request.headers());
                            match undecided.take() {
                                Some(waiting) => State::refused(response, waiting.gate.drain.begin(waiting.request)),
                                None => return Poll::Pending,
                            }
                        }
                        Passage::Undecided(wait) => {
                            waiting.wait = wait;
                            continue;
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

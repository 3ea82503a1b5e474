use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::RateLimitBody;
use super::drain::{Drain, Unread, announce_close};
use super::state::{LayerState, Outcome, Wait};
use crate::key::RequestView;
use crate::response::HeadersToAdd;

pin_project! {
    /// The response future of a [`RateLimitService`](super::RateLimitService).
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the inner call or the lookup of the key. Charged units stay charged.
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
        // The refusal waits for the rest of the request's body.
        Draining { refusal: Option<Box<Mutex<Draining>>> },
        // Boxed, so that a future without a wait stays small. No code locks the mutex. It makes this future `Sync` if
        // the inner one is, although bodies and the futures of stores are only `Send`.
        Undecided { undecided: Option<Box<Mutex<Undecided<S, Req>>>> },
    }
}

/// The headers for the response, and the responder that adds them.
type Tell = (HeadersToAdd, Arc<LayerState>);

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
    layer: Arc<LayerState>,
}

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    pub(super) fn admitted(future: S::Future, tell: Option<Tell>) -> Self {
        Self { state: State::Admitted { future, tell } }
    }

    pub(super) fn refused(response: Response<Bytes>, unread: Unread) -> Self {
        Self { state: State::refused(response, unread) }
    }

    pub(super) fn undecided(wait: Wait, ready: S, request: Req, layer: Arc<LayerState>) -> Self {
        let undecided = Mutex::new(Undecided { wait, ready, request, layer });
        Self { state: State::Undecided { undecided: Some(Box::new(undecided)) } }
    }
}

impl<F, S, Req> State<F, S, Req> {
    fn refused(mut response: Response<Bytes>, unread: Unread) -> Self {
        match unread {
            Unread::Draining(drain) => {
                return Self::Draining { refusal: Some(Box::new(Mutex::new(Draining { drain, response }))) };
            }
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
                        if let Some((to_add, layer)) = tell {
                            layer.responder.add(to_add, response.status(), response.headers_mut());
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
                    let is_read = ready!(draining.get_mut().drain.poll(cx));
                    let Some(draining) = refusal.take().map(|draining| draining.into_inner()) else {
                        return Poll::Pending;
                    };
                    State::refused(draining.response, if is_read { Unread::Nothing } else { Unread::Abandoned })
                }
                StateProj::Undecided { undecided } => {
                    let Some(waiting) = undecided.as_mut().map(|waiting| waiting.get_mut()) else {
                        return Poll::Pending;
                    };
                    match ready!(waiting.layer.poll(&mut waiting.wait, cx)) {
                        Outcome::Admitted(admission) => match undecided.take().map(|waiting| waiting.into_inner()) {
                            Some(Undecided { mut ready, mut request, layer, .. }) => {
                                if let Some(decision) = admission.decision {
                                    request.extensions_mut().insert(decision);
                                }
                                let tell = admission.to_add.map(|to_add| (to_add, layer));
                                State::Admitted { future: ready.call(request), tell }
                            }
                            None => return Poll::Pending,
                        },
                        Outcome::Refused(refusal) => {
                            let response =
                                waiting.layer.responder.refuse(&refusal, &RequestView::new(&waiting.request));
                            match undecided.take().map(|waiting| waiting.into_inner()) {
                                Some(waiting) => State::refused(response, waiting.layer.drain.begin(waiting.request)),
                                None => return Poll::Pending,
                            }
                        }
                        Outcome::Undecided(wait) => {
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

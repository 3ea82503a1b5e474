use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use super::body::RateLimitBody;
use super::drain::{Drain, Unread, announce_close};
use super::outcome::{Admission, Headers, Outcome, Refused};
use super::several::Several;
use super::state::LayerState;
use super::steps::{Entry, Progress};
use crate::key::RequestView;
use crate::store::BudgetResponse;

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
        Admitted { #[pin] future: F },
        // The response gets headers. In a variant of its own, because one with both parts would be copied twice.
        Annotated { #[pin] future: F, headers: Headers, layer: Arc<LayerState> },
        Refused { response: Option<Response<Bytes>> },
        // The refusal waits for the rest of the request's body.
        Draining { refusal: Option<Box<SyncWrapper<Draining>>> },
        Undecided { undecided: Option<Waiting<S, Req>> },
    }
}

/// Boxed, so that a future without a wait stays small. The wrapper makes the future `Sync` if the inner one is, although
/// bodies and the futures of stores are only `Send`.
type Waiting<S, Req> = Box<SyncWrapper<Undecided<S, Req>>>;

/// A refusal that waits until its request's body is read.
struct Draining {
    drain: Drain,
    response: Response<Bytes>,
}

/// A request that waits for its key or its decision, with the service that was ready for it.
struct Undecided<S, Req> {
    progress: Progress,
    ready: S,
    request: Req,
    layer: Arc<LayerState>,
}

impl<S: Service<Request<B>>, B: 'static> ResponseFuture<S, Request<B>> {
    /// Charges the request, and calls the inner service if the request is admitted.
    #[inline]
    pub(super) fn new(service: &mut S, mut request: Request<B>, layer: &Arc<LayerState>) -> Self
    where
        S: Clone,
    {
        let entry = layer.enter(&RequestView::new(&request));
        let headers = match &entry {
            Entry::Plain(BudgetResponse::Ready(Ok(decision))) => {
                layer.observe_plain(decision);
                match decision.is_allowed() {
                    true => layer.admit(Admission::Plain(decision), request.extensions_mut()),
                    false => return Self { state: State::refused(Refused::Plain(decision), request, layer) },
                }
            }
            _ => return Self::proceed(service, request, layer, entry),
        };
        // Without a value to drop after the call, the inner service writes its future in place.
        drop(entry);
        match headers {
            None => Self { state: State::Admitted { future: service.call(request) } },
            headers => Self { state: State::call(service, request, headers, layer) },
        }
    }

    /// Out of line, because most layers have one plain limit.
    #[inline(never)]
    fn proceed(service: &mut S, mut request: Request<B>, layer: &Arc<LayerState>, entry: Entry) -> Self
    where
        S: Clone,
    {
        let mut several = Several::default();
        let progress = layer.proceed(entry, &RequestView::new(&request), &mut several);
        let headers = match layer.outcome(&progress, Some(&several)) {
            Some(Outcome::Admitted(admission)) => layer.admit(admission, request.extensions_mut()),
            Some(Outcome::Refused(refused)) => return Self { state: State::refused(refused, request, layer) },
            None => {
                // The future takes the ready service and leaves a clone, which may not be ready.
                let clone = service.clone();
                let ready = std::mem::replace(service, clone);
                let undecided = Undecided { progress, ready, request, layer: Arc::clone(layer) };
                return Self { state: State::Undecided { undecided: Some(Box::new(SyncWrapper::new(undecided))) } };
            }
        };
        drop(progress);
        Self { state: State::call(service, request, headers, layer) }
    }
}

impl<S: Service<Request<B>>, B: 'static> State<S::Future, S, Request<B>> {
    /// Calls the inner service with an admitted request.
    fn call(service: &mut S, request: Request<B>, headers: Option<Headers>, layer: &Arc<LayerState>) -> Self {
        match headers {
            None => Self::Admitted { future: service.call(request) },
            Some(headers) => {
                let layer = Arc::clone(layer);
                Self::Annotated { future: service.call(request), headers, layer }
            }
        }
    }

    /// Out of line, so that the call of an admitted request stays small.
    #[inline(never)]
    fn refused(refused: Refused<'_>, request: Request<B>, layer: &LayerState) -> Self {
        let (mut head, body) = request.into_parts();
        let unread = layer.drain.begin(&head, body);
        let mut response = layer.refuse(refused, &mut head);
        match unread {
            Unread::Draining(drain) => {
                return Self::Draining { refusal: Some(Box::new(SyncWrapper::new(Draining { drain, response }))) };
            }
            Unread::Abandoned => announce_close(&mut response),
            Unread::Nothing => {}
        }
        Self::Refused { response: Some(response) }
    }

    /// Continues a request that waits for I/O. Returns the state after the decision.
    fn poll_undecided(undecided: &mut Option<Waiting<S, Request<B>>>, cx: &mut Context<'_>) -> Poll<Self> {
        let Some(waiting) = undecided else { return Poll::Pending };
        let Undecided { progress, request, layer, .. } = waiting.get_mut();
        ready!(layer.poll(progress, &RequestView::new(request), cx));
        let Some(waiting) = undecided.take() else { return Poll::Pending };
        let Undecided { progress, mut ready, mut request, layer } = waiting.into_inner();
        Poll::Ready(match layer.outcome(&progress, None) {
            Some(Outcome::Admitted(admission)) => {
                let headers = layer.admit(admission, request.extensions_mut());
                drop(progress);
                Self::call(&mut ready, request, headers, &layer)
            }
            Some(Outcome::Refused(refused)) => Self::refused(refused, request, &layer),
            None => return Poll::Pending,
        })
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
                StateProj::Admitted { future } => {
                    return future.poll(cx).map_ok(|response| response.map(RateLimitBody::inner));
                }
                StateProj::Annotated { future, headers, layer } => {
                    let result = ready!(future.poll(cx));
                    if result.is_err() {
                        headers.release();
                    }
                    return Poll::Ready(result.map(|mut response| {
                        // A function that settles sees the response of the handler.
                        let tail = match headers {
                            Headers::Followed(followed) => followed.tail(layer, &response),
                            _ => None,
                        };
                        layer.add(headers, response.status(), response.headers_mut());
                        response.map(|body| match tail {
                            None => RateLimitBody::inner(body),
                            Some(tail) => RateLimitBody::watched(body, tail),
                        })
                    }));
                }
                StateProj::Refused { response } => {
                    let Some(response) = response.take() else { return Poll::Pending };
                    return Poll::Ready(Ok(response.map(RateLimitBody::full)));
                }
                StateProj::Draining { refusal } => {
                    let Some(draining) = refusal else { return Poll::Pending };
                    let is_read = ready!(draining.get_mut().drain.poll(cx));
                    let Some(draining) = refusal.take() else { return Poll::Pending };
                    let mut response = draining.into_inner().response;
                    if !is_read {
                        announce_close(&mut response);
                    }
                    State::Refused { response: Some(response) }
                }
                StateProj::Undecided { undecided } => ready!(State::poll_undecided(undecided, cx)),
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

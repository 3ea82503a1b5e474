use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::body::RateLimitBody;
use super::future::ResponseFuture;
use super::state::{LayerState, Outcome};
use crate::key::RequestView;

/// A service with a rate limit. [`RateLimitLayer`](super::RateLimitLayer) creates it.
///
/// A clone costs the inner clone and one reference count.
///
/// A refusal does not call the inner service. Resources that the inner service reserved in `poll_ready` stay with this
/// instance until its next call or its drop. axum and tonic call a clone for each request, so they release the
/// resources.
#[derive(Clone, Debug)]
pub struct RateLimitService<S> {
    inner: S,
    state: Arc<LayerState>,
}

impl<S> RateLimitService<S> {
    pub(super) fn new(inner: S, state: Arc<LayerState>) -> Self {
        Self { inner, state }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ReqBody: 'static,
{
    type Response = Response<RateLimitBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<ReqBody>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.state.enter(&RequestView::new(&request)) {
            Outcome::Admitted(admission) => {
                let tell = admission.to_add.map(|to_add| (to_add, Arc::clone(&self.state)));
                if let Some(decision) = admission.decision {
                    request.extensions_mut().insert(decision);
                }
                ResponseFuture::admitted(self.inner.call(request), tell)
            }
            Outcome::Refused(refusal) => {
                let response = self.state.responder.refuse(&refusal, &RequestView::new(&request));
                ResponseFuture::refused(response, self.state.drain.begin(request))
            }
            Outcome::Undecided(wait) => {
                // The future takes the ready service and leaves a clone, which may not be ready.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::undecided(wait, ready, request, Arc::clone(&self.state))
            }
        }
    }
}

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::body::RateLimitBody;
use super::future::ResponseFuture;
use super::state::LayerState;

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

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if self.state.successor.is_set()
            && let Some(newest) = self.state.successor.newest()
        {
            self.state = newest;
        }
        ResponseFuture::new(&mut self.inner, request, &self.state)
    }
}

//! The paths of the layer, around a service that returns an empty response at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;
use tower_weir::response::RateLimitHeaders;
use tower_weir::{ClientIp, Global, Limit, ManualClock, Quotas, RateLimitLayer, RateLimitLayerBuilder};

use crate::{Path, counted_calls, local};

pub const PATHS: &[Path] = &[
    ("bare-service", || serve(Hello, StatusCode::OK)),
    ("layer-admit", || limited("1000000000/s", |layer| layer, StatusCode::OK)),
    ("layer-admit-headers", || limited("1000000000/s", with_headers, StatusCode::OK)),
    ("layer-refuse", || limited("1/h", |layer| layer, StatusCode::TOO_MANY_REQUESTS)),
    ("layer-two-quotas", || limited("1000000000/s", |layer| layer.quotas(["2000000000/s"]), StatusCode::OK)),
    ("layer-two-limits", || limited("1000000000/s", |layer| layer.limit(global("1000000000/s")), StatusCode::OK)),
    ("layer-two-limits-refuse", || {
        limited("1/h", |layer| layer.limit(global("1000000000/s")), StatusCode::TOO_MANY_REQUESTS)
    }),
    ("layer-tiers", || several(|layer| layer.limit(tiers()))),
    ("layer-ban", || several(|layer| layer.limit(client().ban("1000 in 1h for 1h")))),
    ("layer-top-keys", || several(|layer| layer.limit(client().top_keys("100 names")))),
    ("layer-settle", || several(|layer| layer.limit(client()).settle(|charge, _| charge.refund()))),
];

/// Requests that exist at a time.
///
/// With more of them, the allocator's cache of free blocks overflows (glibc keeps seven of a size), and its slow path
/// then hides what is counted.
const BATCH: usize = 6;
const BATCHES: usize = 2_000;

fn with_headers(layer: RateLimitLayerBuilder) -> RateLimitLayerBuilder {
    layer.headers(RateLimitHeaders::Draft8)
}

fn client() -> Limit {
    Limit::per(ClientIp::peer()).quota("1000000000/s")
}

fn global(quota: &str) -> Limit {
    Limit::per(Global).quota(quota).name("service")
}

/// Quotas by request, which are always the same here.
fn tiers() -> Limit {
    let quotas = Quotas::try_from("1000000000/s").expect("a valid quota");
    Limit::per(ClientIp::peer()).quota_fn(move |_| quotas.clone())
}

fn several(set: fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> u64 {
    let (limiter, _) = local::limiter(&ManualClock::new(), (1.0, 1));
    let builder = RateLimitLayer::builder().limiter(limiter.local());
    serve(set(builder).build().expect("a valid layer").layer(Hello), StatusCode::OK)
}

fn limited(quota: &str, set: fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder, status: StatusCode) -> u64 {
    let (limiter, _) = local::limiter(&ManualClock::new(), (1.0, 1));
    let builder = RateLimitLayer::builder().quota(quota.parse().expect("a valid quota")).limiter(limiter.local());
    serve(set(builder).build().expect("a valid layer").layer(Hello), status)
}

/// Counts the responses of a service that gives every request but the first `status`, and the end of each request and
/// response.
fn serve<S, B>(mut service: S, status: StatusCode) -> u64
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    respond(&mut service, request());
    for _ in 0..BATCHES {
        let mut requests: Vec<_> = (0..BATCH).map(|_| request()).collect();
        // The memory of the list is freed later. Otherwise, the allocator sometimes tidies up while calls are counted.
        counted_calls(requests.drain(..), |request| {
            assert_eq!(black_box(respond(&mut service, request)).status(), status);
        });
    }
    (BATCH * BATCHES) as u64
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 40_000)));
    request
}

/// Polls a service that never waits.
fn respond<S, B>(service: &mut S, request: Request<()>) -> Response<B>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the service waits"),
    }
}

/// Returns an empty response at once.
#[derive(Clone)]
struct Hello;

impl Service<Request<()>> for Hello {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

//! The layer around a service that does nothing, against that service alone.
//!
//! The difference between a figure here and the bare service's is what the layer adds. The requests are built
//! before the clock starts; no runtime and no network takes part.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use tower::{Layer, Service};
use tower_weir::RateLimitLayer;
use tower_weir::response::RateLimitHeaders;

/// Requests that are built at a time.
///
/// With more of them the allocator's cache of free blocks overflows (glibc keeps seven of a size), and its slow
/// path then drowns what is measured. The clock's part is in the bare service's figure too.
const BATCH: u64 = 6;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("layer");
    let (ok, refused) = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
    serve(&mut group, "bare service", Hello, ok);
    serve(&mut group, "admit", limited(&["1000000000/s"]).layer(Hello), ok);
    serve(&mut group, "admit by two quotas", limited(&["1000000000/s", "10000000000/min"]).layer(Hello), ok);
    for (name, headers) in [
        ("admit, with headers", RateLimitHeaders::Draft8),
        ("admit, with the headers of draft 06", RateLimitHeaders::Draft6),
    ] {
        serve(&mut group, name, headed(headers, "1000000000/s").layer(Hello), ok);
    }
    serve(&mut group, "refuse", limited(&["1/h"]).layer(Hello), refused);
    group.finish();
    criterion.final_summary();
}

fn limited(quotas: &[&str]) -> RateLimitLayer {
    let builder = quotas
        .iter()
        .fold(RateLimitLayer::builder(), |builder, quota| builder.quota(quota.parse().expect("a valid quota")));
    builder.build().expect("a valid layer")
}

fn headed(headers: RateLimitHeaders, quota: &str) -> RateLimitLayer {
    let builder = RateLimitLayer::builder().quota(quota.parse().expect("a valid quota"));
    builder.headers(headers).build().expect("a valid layer")
}

/// Times a service that answers every request but the first with `status`.
fn serve<S, B>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S, status: StatusCode)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    answer(&mut service, request());
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let (mut left, mut elapsed) = (iterations, Duration::ZERO);
            let mut batch = Vec::with_capacity(BATCH as usize);
            while left > 0 {
                batch.extend((0..left.min(BATCH)).map(|_| request()));
                left -= batch.len() as u64;
                let begin = Instant::now();
                for request in batch.drain(..) {
                    assert_eq!(black_box(answer(&mut service, request)).status(), status);
                }
                elapsed += begin.elapsed();
            }
            elapsed
        });
    });
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 40_000)));
    request
}

/// Polls a service that never waits.
fn answer<S, B>(service: &mut S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the service waits"),
    }
}

/// Answers at once, with nothing.
#[derive(Clone)]
struct Hello;

impl Service<Request<Body>> for Hello {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

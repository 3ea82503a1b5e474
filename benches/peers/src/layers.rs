//! The scenarios of the layers, around a service that answers at once and does nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use tower::{Layer, Service};
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_weir::RateLimitLayer;
use tower_weir::response::RateLimitHeaders;

use crate::figures::ratio;
use crate::race::{Entrant, Lap, Race, Scenario, Standing};
use crate::report::{Table, version};

pub const SCENARIOS: &[Scenario] = &[("admit", admit), ("refuse", refuse)];

const BARE: &str = "bare service";
const PEER: &str = "tower_governor";
const HEADERS: &str = "with headers";

/// What each layer adds to the bare service, in nanoseconds.
pub fn table(standings: &[Standing]) -> Table {
    let heads = ["ns added per request", "tower-weir", &version(PEER), "x tower_governor", "the bare service takes"];
    let mut table = Table::new(heads);
    for standing in standings {
        let Some(bare) = standing.get(BARE, "") else { continue };
        for variant in ["", HEADERS] {
            let added = |library| {
                let entrant = standing.get(library, variant)?;
                let rounds = entrant.rounds.iter().zip(&bare.rounds).map(|(own, bare)| own - bare);
                Some(Entrant { rounds: rounds.collect(), ..entrant.clone() })
            };
            let (Some(own), Some(peer)) = (added("tower-weir"), added(PEER)) else { continue };
            let title = [standing.title, variant].join(if variant.is_empty() { "" } else { ", " });
            table.row([title, own.cell(), peer.cell(), ratio(&own.rounds, &peer.rounds), bare.cell()]);
        }
    }
    table
}

/// Requests that are built at a time.
///
/// With more of them the allocator's cache of free blocks overflows (glibc keeps seven of a size), and its slow
/// path then drowns what is measured. The clock's part is in the bare service's figure too.
const BATCH: u64 = 6;

fn admit(race: Race) -> Race {
    let (period, burst, ok) = (Duration::from_nanos(1), 1_000_000_000, StatusCode::OK);
    layers(race.calls(300_000), period, burst, "1000000000/s", ok)
}

fn refuse(race: Race) -> Race {
    let (period, burst, refused) = (Duration::from_secs(3_600), 1, StatusCode::TOO_MANY_REQUESTS);
    // Fewer, because tower_governor calibrates a new clock for each refusal.
    layers(race.calls(50_000), period, burst, "1/h", refused)
}

/// All layers by the peer's address, with a limit as `tower_governor` and as this crate spells it.
fn layers(race: Race, period: Duration, burst: u32, quota: &str, status: StatusCode) -> Race {
    let plain = GovernorConfigBuilder::default().period(period).burst_size(burst).finish();
    let with_headers = GovernorConfigBuilder::default().period(period).burst_size(burst).use_headers().finish();
    let plain = GovernorLayer::new(plain.expect("a valid quota")).layer(Hello);
    let with_headers = GovernorLayer::new(with_headers.expect("a valid quota")).layer(Hello);
    let weir = || RateLimitLayer::builder().quota(quota.parse().expect("a valid quota"));
    let weir_with_headers = weir().headers(RateLimitHeaders::Draft8).build().expect("a valid layer").layer(Hello);
    let weir = weir().build().expect("a valid layer").layer(Hello);
    race.counted((BARE, ""), serve(Hello, StatusCode::OK))
        .counted((PEER, ""), serve(plain, status))
        .counted((PEER, HEADERS), serve(with_headers, status))
        .counted(("tower-weir", ""), serve(weir, status))
        .counted(("tower-weir", HEADERS), serve(weir_with_headers, status))
}

/// Calls of a service that answers every request but the first with `status`; and the allocations of a call.
fn serve<S, B>(mut service: S, status: StatusCode) -> (Lap, f64)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + 'static,
{
    answer(&mut service, request());
    let mut batch = Vec::with_capacity(BATCH as usize);
    batch.extend((0..BATCH).map(|_| request()));
    let (_, allocations, _) = crate::alloc::count(|| time(&mut service, &mut batch, status));
    let lap = Box::new(move |calls: u64| {
        let (mut left, mut elapsed) = (calls, Duration::ZERO);
        while left > 0 {
            batch.extend((0..left.min(BATCH)).map(|_| request()));
            left -= batch.len() as u64;
            elapsed += time(&mut service, &mut batch, status);
        }
        elapsed
    });
    (lap, allocations as f64 / BATCH as f64)
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 40_000));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Times the answers to requests, with the end of each request and response.
fn time<S, B>(service: &mut S, requests: &mut Vec<Request<Body>>, status: StatusCode) -> Duration
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let begin = Instant::now();
    for request in requests.drain(..) {
        assert_eq!(black_box(answer(service, request)).status(), status);
    }
    begin.elapsed()
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
#[derive(Clone, Debug)]
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

//! The hot path allocates nothing, counted by an allocator that sees every allocation of its thread.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tower_weir::{ManualClock, RateLimit, RateLimiter};

const CALLS: usize = 1_000;

/// Allocations of this thread while `run` runs.
pub(crate) fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

fn unlimited() -> RateLimit {
    RateLimit::try_from(1e6).unwrap()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(allocations(|| drop(black_box(Box::new(1_u64)))), 1);
    let mut vec: Vec<u64> = Vec::with_capacity(1);
    assert_eq!(allocations(|| vec.extend([1, 2])), 1, "growing in place counts too");
    assert!(std::thread::spawn(|| allocations(|| drop(black_box(vec![0_u8; 9])))).join().unwrap() == 1);
}

#[test]
fn the_first_sight_of_keys_is_not_free_and_so_is_seen() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let seen = allocations(|| {
        for key in 0..10_000_u64 {
            rl.local().absolute().inc(key.to_le_bytes(), &unlimited(), 1);
        }
    });
    assert!(seen > 0);
}

#[test]
fn an_admission_allocates_nothing() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let (limits, rate) = (rl.local().absolute(), unlimited());
    assert!(limits.inc("k", &rate, 1).is_allowed());
    let admitted = || (0..CALLS).filter(|_| limits.inc("k", &rate, 1).is_allowed()).count();
    assert_eq!(allocations(|| assert_eq!(admitted(), CALLS)), 0);
    assert_eq!(limits.get("k"), CALLS as u64 + 1);
}

/// Buckets close, expire and merge: after one window the log has all the memory that it will ever need.
#[test]
fn an_admission_in_every_bucket_allocates_nothing_after_one_window() {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let (limits, rate) = (rl.local().absolute(), unlimited());
    let window = || {
        for _ in 0..6_001 {
            clock.advance(Duration::from_millis(10));
            assert!(limits.inc("k", &rate, 1).is_allowed());
        }
    };
    assert!(allocations(window) > 0, "the log was never allocated, so this shows nothing");
    assert_eq!(allocations(window), 0);
}

#[test]
fn an_admission_by_the_system_clock_allocates_nothing_after_some_windows() {
    let rl = RateLimiter::builder()
        .window_size_seconds(1.try_into().unwrap())
        .rate_group_size_ms(50.try_into().unwrap())
        .build()
        .unwrap();
    let (limits, rate) = (rl.local().absolute(), unlimited());
    let window = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1_100) {
            limits.inc("k", &rate, 1);
        }
    };
    assert!(allocations(window) > 0, "the log was never allocated, so this shows nothing");
    // A loaded machine may leave out buckets, and the log then grows in a later window.
    assert!((0..10).any(|_| allocations(window) == 0));
    assert!(limits.get("k") > 0);
}

#[test]
fn a_rejection_allocates_nothing() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let (limits, rate) = (rl.local().absolute(), RateLimit::try_from(1.0).unwrap());
    assert!(limits.inc("k", &rate, 60).is_allowed());
    let rejected = || (0..CALLS).filter(|_| !limits.inc("k", &rate, 1).is_allowed()).count();
    assert_eq!(allocations(|| assert_eq!(rejected(), CALLS)), 0);
}

#[test]
fn a_suppressed_decision_over_the_limit_allocates_nothing_once_the_key_sheds() {
    let clock = ManualClock::new();
    let options = RateLimiter::builder().hard_limit_factor(1.5.try_into().unwrap()).clock(clock.clone());
    let rl = options.build().unwrap();
    let (limits, rate) = (rl.local().suppressed(), RateLimit::try_from(10.0).unwrap());
    // Twice the limit, one request in every second bucket of the default window.
    let window = || {
        let mut admitted = 0;
        for _ in 0..1_200 {
            clock.advance(Duration::from_millis(50));
            admitted += u64::from(limits.inc("k", &rate, 1).is_allowed());
        }
        admitted
    };
    let mut admitted = 0;
    assert!(allocations(|| admitted = window()) > 0, "nothing was shed, so this shows nothing");
    assert!(admitted < 1_200);
    assert_eq!(allocations(|| admitted = window()), 0);
    assert!((400..=900).contains(&admitted), "{admitted} of 1200 admitted, with 600 allowed: both ways were taken");
}

#[cfg(feature = "middleware")]
pub(crate) mod layer {
    use super::{CALLS, allocations, black_box};

    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::net::SocketAddr;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http::{HeaderValue, Request, Response};
    use http_body::{Body, Frame};
    use tower::{Layer, Service};
    use tower_weir::key::{Cookie, GrpcService, Header, HttpMethod};
    use tower_weir::response::{RateLimitHeaders, ResetFormat};
    use tower_weir::{ClientIp, Global, Limit, ManualClock, Quotas, RateLimitLayer, RateLimiter};

    /// A service that is always ready and answers at once.
    #[derive(Clone)]
    pub(crate) struct Trivial;

    impl Service<Request<()>> for Trivial {
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

    /// Sends one request; the status of the answer, which must come at once.
    pub(crate) fn send<S, B>(service: &mut S, request: Request<()>) -> u16
    where
        S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
        match pin!(service.call(request)).poll(cx) {
            Poll::Ready(Ok(response)) => response.status().as_u16(),
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => panic!("a local store decides at once"),
        }
    }

    fn requests(n: usize) -> impl Iterator<Item = Request<()>> {
        let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let request = move || Request::get("/").extension(peer).header("x-api-key", "secret").body(()).unwrap();
        std::iter::repeat_with(request).take(n)
    }

    #[test]
    fn the_layer_admits_without_an_allocation() {
        let new = || RateLimitLayer::builder().quota("1000000/min".parse().unwrap());
        let pair = (ClientIp::peer(), Header::new("x-api-key"));
        let global = || Limit::per(Global).quota("1000000/h").name("service");
        let quotas = Quotas::try_from("1000000/min").unwrap();
        let tiers = Limit::per(ClientIp::peer()).quota_fn(move |_| quotas.clone()).name("tiers");
        for builder in [
            new(),
            new().quota("1000000/h".parse().unwrap()),
            new().key(pair),
            new().suppressed(1.5),
            new().cost(|_| 3),
            new().routes([("GET /", "1000000/h")]),
            new().limit(global()),
            new().limit(global().suppressed(1.2)).limit(tiers),
            new().limit(global().shadow()).limit(Limit::per(Global).quota("1/h").enforced_for(0.0).name("shadow")),
        ] {
            let about = format!("{builder:?}");
            let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
            let mut service = builder.limiter(rl.local()).build().unwrap().layer(Trivial);
            assert!(requests(1).all(|request| send(&mut service, request) == 200));
            let requests: Vec<_> = requests(CALLS).collect();
            let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
            assert_eq!(allocations(run), 0, "{about}");
        }
    }

    /// The frames of a response, which allocate nothing themselves.
    struct Frames(usize);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(b"data: token\n\n")))))
        }
    }

    /// Frames that the reservation of the request pays, and frames that the limit pays, in one bucket and in many.
    #[test]
    fn a_metered_frame_allocates_nothing() {
        let each = Duration::from_millis(10);
        for (reserved, step) in [(1, Duration::ZERO), (1, each), (1_000_000, Duration::ZERO), (1_000_000, each)] {
            let clock = ManualClock::new();
            let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
            let limit = Limit::per(Global).quota("3000000/s").cost(move |_| reserved).meter(|data| data.len() as u64);
            let layer = RateLimitLayer::builder().limit(limit).limiter(rl.local()).build().unwrap();
            let serve = |_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Frames(2 * CALLS))));
            let mut service = layer.layer(tower::service_fn(serve));
            let mut response = Box::pin(service.call(Request::new(())));
            let Poll::Ready(Ok(response)) = response.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("it waits");
            };
            let mut body = response.into_body();
            let mut frames = |count: usize| {
                for _ in 0..count {
                    clock.advance(step);
                    let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
                    assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
                }
            };
            // A key has all its memory after a window.
            frames(CALLS);
            assert_eq!(allocations(|| frames(CALLS)), 0, "{reserved} reserved, {step:?} between frames");
        }
    }

    /// Behind proxies too, whatever the client sent before them.
    #[test]
    fn a_client_address_is_read_without_an_allocation() {
        let junk = "6.6.6.6, ".repeat(1 << 17);
        let behind = || ClientIp::behind(["192.0.2.0/24"]).unwrap();
        for (key, name, value) in [
            (behind(), "x-forwarded-for", format!("{junk}203.0.113.9, 192.0.2.7")),
            (ClientIp::hops(2), "x-forwarded-for", format!("{junk}[2001:db8::1]:80, 192.0.2.7")),
            (behind().forwarded(), "forwarded", format!("for=6.6.6.6, FOR=\"[2001:db8::\\1]:80\";x=\"{junk}\"")),
            (behind().header("x-real-ip"), "x-real-ip", "203.0.113.9".to_owned()),
        ] {
            let value = HeaderValue::from_str(&value).unwrap();
            let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
            let builder = RateLimitLayer::builder().quota("1000000/min".parse().unwrap()).key(key);
            let mut service = builder.limiter(rl.local()).build().unwrap().layer(Trivial);
            let requests = |n| {
                requests(n).map(|mut request| {
                    request.headers_mut().insert(name, value.clone());
                    request
                })
            };
            assert!(requests(1).all(|request| send(&mut service, request) == 200));
            let requests: Vec<_> = requests(CALLS).collect();
            let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
            assert_eq!(allocations(run), 0, "{name}");
        }
    }

    /// However long the secrets are: their digests fit.
    #[test]
    fn joined_keys_with_hashed_values_are_read_without_an_allocation() {
        let secret = HeaderValue::from_str(&format!("s={}", "x".repeat(1_000))).unwrap();
        let header = || Header::new("x-api-key").hashed();
        let new = || RateLimitLayer::builder().quota("1000000/min".parse().unwrap());
        for builder in
            [new().key((HttpMethod, GrpcService, header())), new().key((header(), Cookie::new("s").hashed()))]
        {
            let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
            let mut service = builder.limiter(rl.local()).build().unwrap().layer(Trivial);
            let requests = |n| {
                requests(n).map(|mut request| {
                    request.headers_mut().insert("x-api-key", secret.clone());
                    request.headers_mut().insert("cookie", secret.clone());
                    request
                })
            };
            assert!(requests(1).all(|request| send(&mut service, request) == 200));
            let requests: Vec<_> = requests(CALLS).collect();
            let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
            assert_eq!(allocations(run), 0);
        }
    }

    /// By the system's clock, with a window so short that it passes several times.
    #[test]
    fn a_layer_with_a_store_of_its_own_comes_to_admit_without_an_allocation() {
        let quota = "1000000/20ms".parse().unwrap();
        let mut service = RateLimitLayer::builder().quota(quota).build().unwrap().layer(Trivial);
        let mut round = || {
            let requests: Vec<_> = requests(10 * CALLS).collect();
            allocations(|| requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200)))
        };
        assert!(round() > 0, "the log was never allocated, so this shows nothing");
        // A loaded machine may leave out buckets, and the log then grows in a later window.
        assert!((0..20).any(|_| round() == 0));
    }

    /// The decision takes one allocation, and so does a text that varies. The maps of the headers and of the
    /// extensions take two each, unless the request has them.
    #[test]
    fn a_refusal_allocates_its_decision_and_the_maps_that_the_request_lacks() {
        fn plain() -> Request<()> {
            Request::new(())
        }
        fn with_extension() -> Request<()> {
            let mut request = plain();
            request.extensions_mut().insert(7_u8);
            request
        }
        fn with_both() -> Request<()> {
            let mut request = with_extension();
            request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
            request
        }
        for (request, maps) in [(plain as fn() -> Request<()>, 4), (with_extension, 2), (with_both, 0)] {
            for (headers, texts) in [(RateLimitHeaders::None, 0), (RateLimitHeaders::Draft8, 1)] {
                let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
                let builder = RateLimitLayer::builder().key(Global).quota("1/h".parse().unwrap()).headers(headers);
                let mut service = builder.limiter(rl.local()).build().unwrap().layer(Trivial);
                assert_eq!(send(&mut service, request()), 200);
                let requests: Vec<_> = std::iter::repeat_with(request).take(CALLS).collect();
                let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 429));
                let each = allocations(run) / CALLS as u64;
                assert!((1..=1 + maps + texts).contains(&each), "{headers:?}: {each} allocations, of the maps {maps}");
            }
        }
    }

    /// The request is refused without a decision, also after a search in a long list.
    #[test]
    fn a_denial_allocates_only_the_map_that_the_request_lacks() {
        fn bare() -> Request<()> {
            Request::builder().extension(SocketAddr::from(([10, 9, 8, 7], 4_000))).body(()).unwrap()
        }
        fn with_header() -> Request<()> {
            let mut request = bare();
            request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
            request
        }
        let list: Vec<String> = (0..5_000_u32).map(|n| format!("10.{}.{}.0/25", n >> 8, n & 255)).collect();
        let new = || RateLimitLayer::builder().quota("1/h".parse().unwrap());
        for builder in [new().deny(|_| true), new().deny_networks(ClientIp::peer(), &list)] {
            let mut service = builder.build().unwrap().layer(Trivial);
            for (request, map) in [(bare as fn() -> Request<()>, 2), (with_header, 0)] {
                let requests: Vec<_> = std::iter::repeat_with(request).take(CALLS).collect();
                let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 403));
                let each = allocations(run) / CALLS as u64;
                assert!(each <= map, "{each} allocations, of the map {map}");
            }
        }
    }

    /// A text for each value that varies and is not a small number. The map of the headers takes two allocations, if
    /// the response had none.
    #[test]
    fn headers_cost_only_what_they_are_made_of() {
        const TYPED: fn() -> Response<()> =
            || Response::builder().header(CONTENT_TYPE, HeaderValue::from_static("text/plain")).body(()).unwrap();
        for (headers, texts) in [
            (RateLimitHeaders::Draft8, 1),
            (RateLimitHeaders::Draft7, 1),
            (RateLimitHeaders::Draft6, 1),
            (RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds }, 1),
        ] {
            for (answer, map) in [(Response::default as fn() -> Response<()>, 2), (TYPED, 0)] {
                let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(answer())));
                let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
                let builder = RateLimitLayer::builder().quota("1000000/min".parse().unwrap()).limiter(rl.local());
                let mut service = builder.headers(headers).build().unwrap().layer(inner);
                assert!(requests(1).all(|request| send(&mut service, request) == 200));
                let requests: Vec<_> = requests(CALLS).collect();
                let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
                let (all, bare) =
                    (allocations(run), allocations(|| (0..CALLS).for_each(|_| drop(black_box(answer())))));
                let each = (all - bare) / CALLS as u64;
                assert!((1..=texts + map).contains(&each), "{headers:?}: {each} allocations, of the map {map}");
            }
        }
    }

    #[test]
    fn a_service_that_allocates_once_per_request_is_seen() {
        let mut service = RateLimitLayer::per_minute(1_000_000).layer(tower::service_fn(async |_: Request<()>| {
            black_box(Box::new(1_u64));
            Ok::<_, Infallible>(Response::new(()))
        }));
        let requests: Vec<_> = requests(CALLS).collect();
        let run = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
        assert!(allocations(run) >= CALLS as u64);
    }
}

/// What a lease covers, and what is known to be refused, is decided in memory.
#[cfg(all(unix, feature = "redis-tokio"))]
mod hybrid {
    use futures_util::FutureExt as _;
    use tower_weir::{RateLimit, RateLimitDecision, RateLimiter};

    use super::{CALLS, allocations, unlimited};
    use crate::support::servers::{Flavor, Server};

    /// Decides without waiting; the decision, and what it allocated. Nothing where it would have to wait.
    fn at_once(rl: &RateLimiter, key: &str, rate: &RateLimit) -> Option<(RateLimitDecision, u64)> {
        let mut decision = None;
        let seen = allocations(|| decision = rl.hybrid().absolute().inc(key, rate, 1).now_or_never());
        decision.map(|decision| (decision.unwrap(), seen))
    }

    #[test]
    fn a_decision_from_a_lease_and_a_refusal_that_stands_allocate_nothing() {
        let server = Server::start(Flavor::Debian);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let rl = RateLimiter::builder().redis_url(server.url()).build().unwrap();
        let _entered = runtime.enter();
        let (mut leased, mut refused, one) = (0, 0, RateLimit::try_from(1.0 / 60.0).unwrap());
        while leased < CALLS || refused < CALLS {
            for (key, rate) in [("wide", unlimited()), ("full", one)] {
                // Those that wait may allocate.
                runtime.block_on(rl.hybrid().absolute().inc(key, &rate, 1)).unwrap();
                for _ in 0..100 {
                    let Some((decision, seen)) = at_once(&rl, key, &rate) else { break };
                    assert_eq!(seen, 0, "{decision:?}");
                    *if decision.is_allowed() { &mut leased } else { &mut refused } += 1;
                }
            }
        }
    }
}

/// Memory that this thread holds after `run`, and held before it not.
fn bytes_kept(run: impl FnOnce()) -> i64 {
    allocation_counter::measure(run).bytes_current
}

#[test]
fn names_that_nobody_uses_cost_nothing() {
    use tower_weir::Quota;
    use tower_weir::store::{Policy, Store, Strategy};
    let clock = ManualClock::new();
    let rl = RateLimiter::new(tower_weir::RateLimiterOptions {
        clock: Some(std::sync::Arc::new(clock.clone())),
        ..Default::default()
    })
    .unwrap();
    let quota: Quota = "10/s".parse().unwrap();
    let open = |n: u32| rl.local().open(&Policy::new(format!("tenant {n}"), [quota], Strategy::Absolute)).unwrap();
    let kept = bytes_kept(|| (0..10_000).for_each(|n| drop(open(n))));
    assert!(kept < 200_000, "{kept} bytes for 10 000 names that were opened and dropped");
    // The twin: those in use are kept, and cost little before their first key.
    let mut held = Vec::with_capacity(1_000);
    let kept = bytes_kept(|| held.extend((0..1_000).map(open)));
    assert!((100_000..2_000_000).contains(&kept), "{kept} bytes for 1000 names in use");
}

/// Keys come and go for several windows: removed ones must leave no holes that make the tables double.
#[test]
fn memory_stays_small_while_keys_come_and_go() {
    let clock = ManualClock::new();
    let rl = RateLimiter::new(tower_weir::RateLimiterOptions {
        window_size_seconds: 1.try_into().unwrap(),
        max_keys: 100_000,
        clock: Some(std::sync::Arc::new(clock.clone())),
        ..Default::default()
    })
    .unwrap();
    let mut key = 0_u64;
    let mut window = || {
        for _ in 0..100 {
            clock.advance(Duration::from_millis(10));
            for _ in 0..900 {
                rl.local().absolute().inc(key.to_le_bytes(), &RateLimit::try_from(5.0).unwrap(), 1);
                key += 1;
            }
        }
    };
    let mut kept = 0;
    for n in 1..=8 {
        kept += bytes_kept(&mut window);
        let per_key = kept / rl.local().keys() as i64;
        assert!(rl.local().keys() >= 90_000);
        assert!(per_key <= 110, "{per_key} bytes a key after {n} windows");
    }
}

/// A flood at a full table shares windows, and each key that gets one of its own takes a copy of little.
#[test]
fn a_flood_at_a_full_table_takes_bounded_memory() {
    let clock = ManualClock::new();
    let rl = RateLimiter::new(tower_weir::RateLimiterOptions {
        window_size_seconds: 10.try_into().unwrap(),
        max_keys: 10_000,
        clock: Some(std::sync::Arc::new(clock.clone())),
        ..Default::default()
    })
    .unwrap();
    let rate = RateLimit::try_from(500.0).unwrap();
    let kept = bytes_kept(|| {
        for key in 0..1_000_000_u64 {
            if key % 200 == 0 {
                clock.advance(Duration::from_millis(10));
            }
            rl.local().absolute().inc(key.to_le_bytes(), &rate, 1);
        }
    });
    assert!(rl.local().keys() > 9_000, "{} keys", rl.local().keys());
    let per_key = kept / rl.local().keys() as i64;
    assert!(per_key < 400, "{per_key} bytes a key");
}

#[cfg(feature = "middleware")]
#[test]
fn a_layer_costs_little_before_its_first_request() {
    let mut layer = None;
    let quota = "10/s".parse().unwrap();
    let kept = bytes_kept(|| layer = Some(tower_weir::RateLimitLayer::builder().quota(quota).build().unwrap()));
    // A quarter of it is what the layer prints and reloads.
    assert!(kept < 6_656, "{kept} bytes");
    drop(layer);
}

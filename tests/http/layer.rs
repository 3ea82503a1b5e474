//! The Tower contract: which service is called and when, what passes through, and what is left behind.
//!
//! Most tests admit before they refuse, so that a layer which refuses everything fails them too.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use serde_json::Value;
use tower::util::BoxCloneService;
use tower::util::ServiceFn;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_weir::key::{Header, KeyWriter};
use tower_weir::layer::{RateLimitBody, RateLimitBodyError, RateLimitService, ResponseFuture};
use tower_weir::limiter::Verdict;
use tower_weir::response::RateLimitHeaders;
use tower_weir::store::{BudgetRequest, BudgetResponse};
use tower_weir::{
    Decision, ManualClock, OnStoreError, RateLimitLayer, RateLimitLayerBuilder, RateLimiter, StoreError, StoreErrorKind,
};

use crate::support::http::{retry_after, within};
use crate::support::probe::{Always, Boom, Deferred, Probe, Reply};

fn builder(quota: &str) -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quota(quota.parse().unwrap())
}

fn layer(quota: &str) -> RateLimitLayer {
    builder(quota).build().unwrap()
}

fn deferred() -> (Deferred, RateLimitLayer) {
    let store = Deferred::default();
    (store.clone(), builder("10/min").limiter(store).build().unwrap())
}

fn request() -> Request<()> {
    Request::get("/").extension(SocketAddr::from(([192, 0, 2, 1], 4_000))).body(()).unwrap()
}

fn post(version: Version) -> Request<()> {
    let mut request = request();
    (*request.method_mut(), *request.version_mut()) = (Method::POST, version);
    request
}

async fn ready<S: Service<Request<()>>>(service: &mut S) -> Result<(), S::Error> {
    within(poll_fn(|cx| service.poll_ready(cx))).await
}

/// Polls once, as nobody who will come back.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn call<S, B>(service: &mut S) -> Result<Response<B>, S::Error>
where
    S: Service<Request<()>, Response = Response<B>>,
{
    ready(service).await?;
    within(service.call(request())).await
}

async fn statuses<S, B>(service: &mut S, n: usize) -> Vec<u16>
where
    S: Service<Request<()>, Response = Response<B>, Error: fmt::Debug>,
{
    let mut statuses = Vec::new();
    for _ in 0..n {
        statuses.push(call(service).await.unwrap().status().as_u16());
    }
    statuses
}

async fn text<B: Body<Data = Bytes, Error: fmt::Debug>>(body: B) -> Bytes {
    within(body.collect()).await.unwrap().to_bytes()
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (probe, log) = Probe::new(Reply::Hello);
    let mut service = layer("3/min").layer(probe);
    assert_eq!(statuses(&mut service, 4).await, [200, 200, 200, 429]);
    assert_eq!(log.called(), [0, 0, 0], "a local decision needs no clone");
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called_after_a_pending_decision() {
    let (probe, log) = Probe::new(Reply::Hello);
    let (store, layer) = deferred();
    let mut service = layer.layer(probe);
    for _ in 0..3 {
        ready(&mut service).await.unwrap();
        // On a task of its own, so that an answer which wakes nobody is seen.
        let future = tokio::spawn(service.call(request()));
        tokio::task::yield_now().await;
        assert_eq!(log.calls(), log.readied.lock().unwrap().len() - 1, "called before the decision");
        store.settle(true);
        let response = within(future).await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), text(response.into_body()).await), (200, "hello".into()));
    }
    assert_eq!(log.called(), *log.readied.lock().unwrap());
}

#[tokio::test]
async fn a_pending_refusal_calls_nobody() {
    let (probe, log) = Probe::new(Reply::Hello);
    let (store, layer) = deferred();
    let mut service = layer.layer(probe);
    for is_admitted in [false, true, false] {
        ready(&mut service).await.unwrap();
        let future = service.call(request());
        store.settle(is_admitted);
        let response = within(future).await.unwrap();
        assert_eq!(response.status().as_u16(), if is_admitted { 200 } else { 429 });
        assert_eq!(retry_after(&response), (!is_admitted).then_some(2), "1.5 s are rounded up");
    }
    assert_eq!(log.calls(), 1);
}

#[tokio::test]
async fn a_pending_decision_is_told_in_the_headers_too() {
    let store = Deferred::default();
    let told = builder("10/min").limiter(store.clone()).headers(RateLimitHeaders::Draft8).build().unwrap();
    let mut service = told.layer(Probe::new(Reply::Hello).0);
    for (is_admitted, want) in [(true, "\"default\";r=9;t=60"), (false, "\"default\";r=0;t=2")] {
        ready(&mut service).await.unwrap();
        let future = service.call(request());
        store.settle(is_admitted);
        assert_eq!(within(future).await.unwrap().headers()["ratelimit"], want);
    }
}

#[tokio::test]
async fn several_decisions_of_one_service_may_be_under_way() {
    let (probe, log) = Probe::new(Reply::Hello);
    let (store, layer) = deferred();
    let mut service = layer.layer(probe);
    let mut futures = Vec::new();
    for _ in 0..3 {
        ready(&mut service).await.unwrap();
        futures.push(service.call(request()));
    }
    store.settle(true);
    store.settle(false);
    store.settle(true);
    for (future, want) in futures.into_iter().zip([200, 429, 200]) {
        assert_eq!(within(future).await.unwrap().status(), want);
    }
    assert_eq!(log.calls(), 2);
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let (probe, _) = Probe::new(Reply::NeverReady);
    let mut service = layer("3/min").layer(probe);
    assert!(poll_once(pin!(poll_fn(|cx| service.poll_ready(cx)))).is_pending());
    let (probe, _) = Probe::new(Reply::BrokenWhenPolled);
    assert_eq!(ready(&mut layer("3/min").layer(probe)).await, Err(Boom));
}

#[tokio::test]
async fn an_error_of_the_inner_service_passes_through() {
    let (probe, log) = Probe::new(Reply::Fail);
    let mut service = layer("1/min").layer(probe);
    assert_eq!(call(&mut service).await.unwrap_err(), Boom);
    assert_eq!(call(&mut service).await.unwrap().status(), 429, "a refusal is a response and no error");

    let (store, layer) = deferred();
    let mut service = layer.layer(service.into_inner());
    for want in [Err(Boom), Ok(429)] {
        ready(&mut service).await.unwrap();
        let future = service.call(request());
        store.settle(want.is_err());
        assert_eq!(within(future).await.map(|response| response.status().as_u16()), want);
    }
    assert_eq!(log.calls(), 2);
}

#[tokio::test]
async fn an_admitted_request_and_its_response_pass_through_untouched() {
    let echo = service_fn(async |request: Request<&'static str>| {
        let (parts, body) = request.into_parts();
        assert_eq!((parts.method.as_str(), parts.uri.path(), parts.version), ("PUT", "/x", http::Version::HTTP_2));
        let mut response = Response::new(Full::<Bytes>::from(body));
        *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
        *response.headers_mut() = parts.headers;
        *response.extensions_mut() = parts.extensions;
        Ok::<_, Infallible>(response)
    });
    let (store, pending) = deferred();
    for (layer, is_pending) in [(layer("1/min"), false), (pending, true)] {
        let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let request =
            Request::put("/x").version(http::Version::HTTP_2).header("a", "b").extension(peer).extension(7_u8);
        let future = layer.layer(echo).call(request.body("body").unwrap());
        if is_pending {
            store.settle(true);
        }
        let response = within(future).await.unwrap();
        assert_eq!(response.status(), 418);
        assert_eq!((response.headers().len(), &response.headers()["a"]), (1, &"b".parse().unwrap()));
        assert_eq!(response.extensions().get::<u8>(), Some(&7));
        assert_eq!(text(response.into_body()).await, "body");
    }
}

#[tokio::test]
async fn a_layer_and_a_service_share_their_budgets_with_their_clones() {
    let layer = layer("3/min");
    let mut one = layer.layer(Probe::new(Reply::Hello).0);
    let mut clone = one.clone();
    let mut other = layer.clone().layer(Probe::new(Reply::Hello).0);
    assert_eq!(statuses(&mut one, 1).await, [200]);
    assert_eq!(statuses(&mut clone, 1).await, [200]);
    assert_eq!(statuses(&mut other, 2).await, [200, 429]);
    assert_eq!(statuses(&mut one, 1).await, [429]);
    assert_eq!(statuses(&mut clone, 1).await, [429]);
}

#[tokio::test]
async fn it_stands_anywhere_in_a_service_builder() {
    let stack = |reply| {
        let (probe, log) = Probe::new(reply);
        let stack = ServiceBuilder::new().layer(BoxCloneService::layer()).concurrency_limit(2);
        (stack.layer(layer("2/min")).concurrency_limit(1).service(probe), log)
    };
    let (service, log) = stack(Reply::Hello);
    for want in [200, 200, 429, 429] {
        assert_eq!(statuses(&mut service.clone(), 1).await, [want]);
    }
    assert_eq!((log.calls(), log.under_way()), (2, 0));

    let (service, _) = stack(Reply::Fail);
    let error = within(service.oneshot(request())).await.unwrap_err();
    assert_eq!(error, Boom);
}

/// As with any service that is polled ready and not called: the place is kept for its next call.
#[tokio::test]
async fn a_refusal_gives_its_place_under_a_concurrency_limit_back_with_its_service() {
    let (probe, _) = Probe::new(Reply::Hello);
    let service = ServiceBuilder::new().layer(layer("1/min")).concurrency_limit(1).service(probe);
    for want in [200, 429, 429, 429] {
        assert_eq!(within(service.clone().oneshot(request())).await.unwrap().status(), want);
    }
    let mut same = service;
    assert_eq!(statuses(&mut same, 3).await, [429, 429, 429]);
}

/// Why the page on the order of layers puts load shedding between a limit and a limit of concurrency.
#[tokio::test]
async fn a_refusal_waits_for_no_place_behind_a_layer_that_sheds_load() {
    let shedding = ServiceBuilder::new().layer(layer("1/min")).load_shed().concurrency_limit(1);
    let waiting = ServiceBuilder::new().layer(layer("1/min")).concurrency_limit(1);
    let (shedding, waiting) = (shedding.service(Probe::new(Reply::Hang).0), waiting.service(Probe::new(Reply::Hang).0));
    let mut taken = Box::pin(shedding.clone().oneshot(request()));
    assert!(poll_once(taken.as_mut()).is_pending());
    assert_eq!(within(shedding.oneshot(request())).await.unwrap().status(), 429);
    let mut taken = Box::pin(waiting.clone().oneshot(request()));
    assert!(poll_once(taken.as_mut()).is_pending());
    assert!(poll_once(pin!(waiting.oneshot(request()))).is_pending(), "it waits for its refusal");
}

#[tokio::test]
async fn a_decision_that_is_dropped_leaves_nothing_behind() {
    let (probe, log) = Probe::new(Reply::Hello);
    let (store, layer) = deferred();
    let mut service = ServiceBuilder::new().layer(layer).concurrency_limit(1).service(probe);
    let mut other = service.clone();
    let token = Arc::new(());
    let mut request = request();
    request.extensions_mut().insert(Arc::clone(&token));

    ready(&mut service).await.unwrap();
    let mut future = Box::pin(service.call(request));
    assert!(poll_once(future.as_mut()).is_pending());
    assert_eq!(Arc::strong_count(&token), 2);
    assert!(poll_once(pin!(poll_fn(|cx| other.poll_ready(cx)))).is_pending(), "the only place is taken");

    drop(future);
    assert_eq!(Arc::strong_count(&token), 1, "the request was not dropped");
    assert!(store.0.lock().unwrap()[0].is_closed(), "the store's future was not dropped");
    ready(&mut other).await.expect("the place is free again");
    assert_eq!(log.calls(), 0);
    drop((service, other));
    assert_eq!(Arc::strong_count(&log), 1, "an instance of the inner service was not dropped");
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_behind() {
    let (probe, log) = Probe::new(Reply::Hang);
    let (store, pending) = deferred();
    for (layer, is_pending) in [(layer("1/min"), false), (pending, true)] {
        let (token, mut request) = (Arc::new(()), request());
        request.extensions_mut().insert(Arc::clone(&token));
        let mut service = layer.layer(probe.clone());
        ready(&mut service).await.unwrap();
        let mut future = Box::pin(service.call(request));
        if is_pending {
            store.settle(true);
        }
        assert!(poll_once(future.as_mut()).is_pending());
        assert_eq!((log.under_way(), Arc::strong_count(&token)), (1, 2));
        drop(future);
        assert_eq!((log.under_way(), Arc::strong_count(&token)), (0, 1));
    }
}

#[tokio::test]
async fn what_was_charged_stays_charged_when_the_call_is_dropped() {
    let (probe, _) = Probe::new(Reply::Hang);
    let mut service = layer("1/min").layer(probe);
    ready(&mut service).await.unwrap();
    drop(service.call(request()));
    assert_eq!(call(&mut service).await.unwrap().status(), 429);
}

#[tokio::test]
async fn a_store_is_dropped_with_the_last_of_its_layers_services_and_calls() {
    let (store, layer) = deferred();
    let held = || Arc::strong_count(&store.0) - 1;
    let mut service = layer.layer(Probe::new(Reply::Hello).0);
    drop(layer);
    let mut futures = Vec::new();
    for _ in 0..3 {
        ready(&mut service).await.unwrap();
        futures.push(service.call(request()));
    }
    drop(service);
    assert!(held() > 0, "the calls that are under way still need it");
    drop(futures.pop());
    for is_admitted in [true, false] {
        store.settle(is_admitted);
        assert_eq!(within(futures.remove(0)).await.unwrap().status() == 200, is_admitted);
    }
    assert_eq!(held(), 0);
}

#[tokio::test]
async fn a_store_that_fails_refuses_or_admits_as_it_was_told() {
    fn failure() -> StoreError {
        StoreError::new(StoreErrorKind::Timeout, "no answer within 100 ms")
    }
    let at_once = Always(|| BudgetResponse::Ready(Err(failure())));
    let later = Always(|| BudgetResponse::Pending(Box::pin(async { Err(failure()) })));
    for (policy, want) in [(OnStoreError::Reject, 503), (OnStoreError::Allow, 200)] {
        for store in [&at_once, &later] {
            let (probe, log) = Probe::new(Reply::Hello);
            let layer = builder("1/min").limiter(store.clone()).on_store_error(policy).build().unwrap();
            let response = call(&mut layer.layer(probe)).await.unwrap();
            assert_eq!(response.status(), want);
            assert_eq!(log.calls(), usize::from(want == 200));
            assert!(response.extensions().get::<Decision>().is_none(), "there was no decision");
            if want == 503 {
                assert_eq!(response.headers()["cache-control"], "no-store");
                assert_eq!(retry_after(&response), None);
                let problem: Value = serde_json::from_slice(&text(response.into_body()).await).unwrap();
                assert_eq!(problem["detail"], "the rate limiter is unavailable", "its cause is not for the client");
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_works_is_not_a_failure_whatever_the_policy() {
    for policy in [OnStoreError::Reject, OnStoreError::Allow] {
        let store = Always(|| BudgetResponse::Ready(Ok(Decision::rejected(10, 10, None))));
        let refuses = builder("1/min").limiter(store).on_store_error(policy).build().unwrap();
        let admits = builder("1/min").on_store_error(policy).build().unwrap();
        assert_eq!(statuses(&mut refuses.layer(Probe::new(Reply::Hello).0), 1).await, [429]);
        assert_eq!(statuses(&mut admits.layer(Probe::new(Reply::Hello).0), 2).await, [200, 429]);
    }
}

#[test]
fn the_public_types_go_wherever_a_service_goes() {
    fn goes<T: Clone + fmt::Debug + Send + Sync + 'static>(_: &T) {}
    fn sends<T: fmt::Debug + Send>() {}
    fn returned() -> RateLimitLayer {
        RateLimitLayer::per_minute(60)
    }
    let layer = returned();
    goes(&layer);
    goes(&layer.layer(Probe::new(Reply::Hello).0));
    fn shares<T: Send + Sync>() {}
    /// With a body that is only `Send`, as axum's is.
    type Upload = Request<std::cell::Cell<u8>>;
    type Inner = ServiceFn<fn(Upload) -> Ready<Result<Response<()>, Infallible>>>;
    sends::<ResponseFuture<Probe, Request<()>>>();
    shares::<ResponseFuture<Inner, Upload>>();
    sends::<RateLimitBody<Full<Bytes>>>();
    sends::<RateLimitLayerBuilder>();
}

#[test]
fn the_inner_service_can_be_reached() {
    let mut service: RateLimitService<u8> = layer("1/min").layer(7);
    assert_eq!(*service.get_ref(), 7);
    *service.get_mut() = 8;
    assert_eq!(service.into_inner(), 8);
}

const SECRET: &str = "hunter2-198.51.100.77";

/// `text` shows the secret neither as it stands nor as a list of its bytes.
fn assert_hides_the_secret(what: &str, value: &dyn fmt::Debug) {
    let bytes = format!("{:?}", SECRET.as_bytes());
    for text in [format!("{value:?}"), format!("{value:#?}").split_whitespace().collect()] {
        assert!(!text.contains(SECRET), "{what} shows its key: {text}");
        let (dense, bytes) = (text.replace(' ', ""), bytes.replace(' ', ""));
        assert!(!dense.contains(bytes.trim_matches(['[', ']'])), "{what} shows its key's bytes: {text}");
    }
}

#[tokio::test]
async fn no_debug_output_contains_a_key() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let layer = builder("1/min").key(Header::new("x-api-key")).limiter(rl.local()).build().unwrap();
    let mut service = layer.layer(Probe::new(Reply::Hello).0);
    let secret = || {
        let mut request = request();
        request.headers_mut().insert("x-api-key", SECRET.parse().unwrap());
        request
    };
    for want in [200, 429] {
        ready(&mut service).await.unwrap();
        let future = service.call(secret());
        assert_hides_the_secret("ResponseFuture", &future);
        let response = within(future).await.unwrap();
        assert_eq!(response.status(), want);
        assert_hides_the_secret("Response", &response);
    }
    let rate = 1.0.try_into().unwrap();
    assert!(rl.local().absolute().inc(SECRET, &rate, 1).is_allowed());
    let mut writer = KeyWriter::new();
    writer.write(SECRET);
    let values: [(&str, &dyn fmt::Debug); 6] = [
        ("RateLimitLayer", &layer),
        ("RateLimitService", &service),
        ("RateLimiter", &rl),
        ("Local", rl.local()),
        ("LocalLimits", &rl.local().absolute()),
        ("KeyWriter", &writer),
    ];
    for (what, value) in values {
        assert_hides_the_secret(what, value);
    }
}

#[test]
fn the_debug_output_of_a_question_does_not_contain_its_key() {
    assert_hides_the_secret("Ask", &BudgetRequest::new(SECRET.as_bytes(), 1));
}

#[tokio::test]
async fn a_refusal_carries_its_decision() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let quotas = builder("5/h").quota("2/min".parse().unwrap());
    let mut service = quotas.limiter(rl.local()).build().unwrap().layer(Probe::new(Reply::Hello).0);
    assert_eq!(statuses(&mut service, 2).await, [200, 200]);
    let response = call(&mut service).await.unwrap();
    let decision = response.extensions().get::<Decision>().unwrap();
    assert_eq!((decision.verdict(), decision.is_allowed()), (Verdict::Rejected, false));
    assert_eq!((decision.limit(), decision.used(), decision.remaining()), (2, 2, 0));
    assert_eq!((decision.limit_index(), decision.is_exceeded(0), decision.is_exceeded(1)), (1, false, true));
    assert_eq!(decision.retry_after(), Some(Duration::from_millis(60_010)));
    assert_eq!(retry_after(&response), Some(61), "rounded up, since waiting less would be too early");
}

#[tokio::test]
async fn a_refusals_body_tells_its_size_and_end() {
    let mut service = layer("1/min").layer(Probe::new(Reply::Hello).0);
    assert_eq!(statuses(&mut service, 1).await, [200]);
    let mut body = call(&mut service).await.unwrap().into_body();
    let size = body.size_hint().exact().unwrap();
    assert!(size > 0 && !body.is_end_stream());
    let frame = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame.len() as u64, size);
    assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
    assert!(within(body.frame()).await.is_none());

    let mut grpc = post(Version::HTTP_2);
    grpc.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    let body = within(service.call(grpc)).await.unwrap().into_body();
    assert!(body.is_end_stream() && body.size_hint().exact() == Some(0), "gRPC ends its stream with its headers");
}

#[tokio::test]
async fn a_request_is_answered_in_the_protocol_that_it_speaks() {
    let refuses = RateLimitLayer::per_minute(0).layer(Probe::new(Reply::Hello).0);
    for (content_type, is_grpc) in [
        (None, false),
        (Some("application/json"), false),
        (Some("application/grpc-web"), true),
        (Some("application/grpc-web-text+proto"), true),
        (Some("application/grpcfoo"), false),
        (Some("text/application/grpc"), false),
        (Some("application/grpc"), true),
        (Some("application/grpc+proto"), true),
        (Some("application/grpc;charset=utf-8"), true),
        (Some("Application/GRPC"), true),
    ] {
        let mut request = post(Version::HTTP_2);
        request.headers_mut().extend(content_type.map(|it| (http::header::CONTENT_TYPE, it.parse().unwrap())));
        let response = within(refuses.clone().oneshot(request)).await.unwrap();
        assert_eq!(response.status() == 200, is_grpc, "{content_type:?}");
        assert_eq!(response.headers().get("grpc-status").is_some_and(|status| status == "8"), is_grpc);
    }
}

#[tokio::test]
async fn a_body_of_the_inner_service_passes_through_with_its_trailers_and_errors() {
    let frames = service_fn(async |_: Request<()>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [Ok(Frame::data(Bytes::from("a"))), Ok(Frame::data(Bytes::from("b")))];
        let end = [Ok(Frame::trailers(trailers)), Err(Boom)];
        Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames.into_iter().chain(end)))))
    });
    let mut body = pin!(call(&mut layer("1/min").layer(frames)).await.unwrap().into_body());
    for want in ["a", "b"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), want);
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.frame().await.unwrap().unwrap_err(), RateLimitBodyError::Inner(Boom));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_body_of_the_inner_service_keeps_its_size_and_end() {
    let hello = layer("1/min").layer(Probe::new(Reply::Hello).0).oneshot(request());
    let body = within(hello).await.unwrap().into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));

    let empty = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
    let body = call(&mut layer("1/min").layer(empty)).await.unwrap().into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
}

/// A layer that refuses everything keeps every promise about refusals; this one it must break.
#[tokio::test]
async fn what_the_quota_has_room_for_is_admitted_and_not_one_more() {
    for n in [1, 2, 10, 1_000] {
        let (probe, log) = Probe::new(Reply::Hello);
        let mut service = RateLimitLayer::per_hour(n as u64).layer(probe);
        let statuses = statuses(&mut service, n + 10).await;
        assert!(statuses[..n].iter().all(|&status| status == 200));
        assert!(statuses[n..].iter().all(|&status| status == 429));
        assert_eq!(log.calls(), n);
    }
}

//! Requests that wait instead of being refused, and clients that heed `Retry-After`.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};
use tower_weir::key::{Header, TargetHost};
use tower_weir::layer::RateLimitBody;
use tower_weir::{
    ConfigError, Decision, Global, Limit, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter,
};

type Answer = Response<RateLimitBody<Full<Bytes>>>;
type Call = Pin<Box<dyn Future<Output = Result<Answer, Infallible>>>>;

/// A status, and a value of `Retry-After`.
type StatusAndWait = (u16, Option<String>);

/// What a server responds, in this order, and then 200; and the clients whose requests it got.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<StatusAndWait>>>,
    served: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn will_answer(&self, status: u16, retry_after: Option<&str>) {
        self.answers.lock().unwrap().push_back((status, retry_after.map(str::to_owned)));
    }

    fn served(&self) -> usize {
        self.served.lock().unwrap().len()
    }
}

/// A layer with a clock that only the test moves, around a server.
struct Stack {
    clock: ManualClock,
    call: Box<dyn FnMut(Request<()>) -> Call>,
    server: Server,
}

impl Stack {
    fn new(builder: RateLimitLayerBuilder) -> Self {
        let clock = ManualClock::new();
        let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
        Self::of(&builder.limiter(rl.local()).build().unwrap(), clock)
    }

    fn of(layer: &RateLimitLayer, clock: ManualClock) -> Self {
        let server = Server::default();
        let inner = server.clone();
        let mut service = layer.layer(service_fn(move |request: Request<()>| {
            let who = request.headers().get("x-client").map_or("", |value| value.to_str().unwrap());
            inner.served.lock().unwrap().push(who.to_owned());
            let (status, retry_after) = inner.answers.lock().unwrap().pop_front().unwrap_or((200, None));
            let mut response = Response::builder().status(status);
            if let Some(wait) = retry_after {
                response = response.header("retry-after", wait);
            }
            std::future::ready(Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).unwrap()))
        }));
        Self { clock, call: Box::new(move |request| Box::pin(service.call(request))), server }
    }

    fn send(&mut self, client: &str) -> Call {
        self.request(Request::get("https://a.example/").header("x-client", client))
    }

    fn request(&mut self, request: http::request::Builder) -> Call {
        (self.call)(request.body(()).unwrap())
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

fn poll(call: &mut Call) -> Option<Answer> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(response) => Some(response.unwrap()),
        Poll::Pending => None,
    }
}

fn status(call: &mut Call) -> Option<u16> {
    poll(call).map(|response| response.status().as_u16())
}

/// The refusal and its wait in seconds.
#[track_caller]
fn refused(call: &mut Call) -> (u16, u64) {
    let response = poll(call).expect("it does not wait");
    assert!(response.extensions().get::<Decision>().is_some(), "the layer refuses, and not the server");
    let wait = response.headers().get("retry-after").map_or(0, |wait| wait.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), wait)
}

fn builder(quota: &str) -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quota(quota.parse().unwrap()).key(Header::new("x-client"))
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_request_waits_for_its_turn_and_is_charged_once() {
    let mut stack = Stack::new(builder("2/s").wait_at_most(SECONDS(5)));
    let mut calls: Vec<Call> = (0..7).map(|_| stack.send("a")).collect();
    for round in 1..=3 {
        let admitted = calls.iter_mut().take(2).filter_map(status).collect::<Vec<_>>();
        assert_eq!(admitted, [200, 200], "round {round}");
        calls.drain(..2);
        assert!(calls.iter_mut().all(|call| status(call).is_none()), "round {round}");
        assert_eq!(stack.server.served(), 2 * round);
        stack.pass(1_009);
        assert!(calls.iter_mut().all(|call| status(call).is_none()), "round {round}");
        stack.pass(1);
    }
    assert_eq!(status(&mut calls[0]), Some(200));
    assert_eq!(status(&mut stack.send("a")), Some(200), "the last one was charged once");
    assert_eq!(status(&mut stack.send("a")), None);
}

#[test]
fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let mut stack = Stack::new(builder("2/2s").wait_at_most(SECONDS(1)));
    let mut calls: Vec<Call> = (0..2).map(|_| stack.send("a")).collect();
    assert!(calls.iter_mut().all(|call| status(call) == Some(200)));
    assert_eq!(refused(&mut stack.send("a")), (429, 3));
    stack.pass(1_010);
    let (mut first, mut second) = (stack.send("a"), stack.send("a"));
    assert!(status(&mut first).is_none() && status(&mut second).is_none());
    stack.pass(1_000);
    assert_eq!((status(&mut first), status(&mut second)), (Some(200), Some(200)));
    assert_eq!(refused(&mut stack.send("a")), (429, 3));
    assert_eq!(stack.server.served(), 4);
}

#[test]
fn a_new_request_does_not_pass_those_that_wait() {
    let mut stack = Stack::new(builder("1/s").wait_at_most(SECONDS(5)));
    assert_eq!(status(&mut stack.send("a")), Some(200));
    let mut first = stack.send("a");
    assert_eq!(status(&mut first), None);
    stack.pass(1_010);
    // A unit is free, and the first request has not been polled yet.
    let mut late = stack.send("a");
    assert_eq!((status(&mut late), status(&mut first)), (None, Some(200)));
    assert_eq!(status(&mut stack.send("b")), Some(200), "another client has another queue");
    stack.pass(1_010);
    assert_eq!(status(&mut late), Some(200));
}

#[test]
fn a_request_that_is_dropped_is_not_charged_and_passes_its_turn_on() {
    let mut stack = Stack::new(builder("1/s").wait_at_most(SECONDS(5)));
    assert_eq!(status(&mut stack.send("a")), Some(200));
    let (mut gone, mut next) = (stack.send("a"), stack.send("a"));
    assert!(status(&mut gone).is_none() && status(&mut next).is_none());
    stack.pass(1_010);
    drop(gone);
    assert_eq!(status(&mut next), Some(200));
    assert_eq!(stack.server.served(), 2);
}

#[test]
fn the_number_of_waiting_requests_is_bounded() {
    let waiting = || builder("1/s").wait_at_most(SECONDS(5));
    let mut stack = Stack::new(waiting().max_waiting(3).max_waiting_per_key(2));
    for client in ["a", "b", "c"] {
        assert_eq!(status(&mut stack.send(client)), Some(200));
    }
    let mut calls = [stack.send("a"), stack.send("a")];
    assert!(calls.iter_mut().all(|call| status(call).is_none()));
    assert_eq!(refused(&mut stack.send("a")), (429, 2), "two of one client wait");
    let mut other = stack.send("b");
    assert_eq!(status(&mut other), None);
    assert_eq!(refused(&mut stack.send("c")), (429, 2), "three wait");
    assert_eq!(status(&mut stack.send("d")), Some(200));
    drop(other);
    assert_eq!(status(&mut stack.send("c")), None);
    let error = waiting().max_waiting(0).build().unwrap_err();
    assert_eq!(
        (error, waiting().max_waiting_per_key(0).build().unwrap_err()),
        (ConfigError::ZeroMaxWaiting, ConfigError::ZeroMaxWaiting)
    );
}

#[test]
fn a_request_with_several_limits_waits_for_all_of_them() {
    let limits = RateLimitLayer::builder()
        .limit(Limit::per(Header::new("x-client")).quota("1/s").name("client"))
        .limit(Limit::per(Global).quota("3/3s").name("everyone"))
        .wait_at_most(SECONDS(5));
    let mut stack = Stack::new(limits);
    for client in ["a", "b", "c"] {
        assert_eq!(status(&mut stack.send(client)), Some(200));
    }
    let mut waiting = [stack.send("a"), stack.send("d")];
    stack.pass(1_010);
    assert!(waiting.iter_mut().all(|call| status(call).is_none()), "the longer wait counts");
    stack.pass(2_000);
    assert!(waiting.iter_mut().all(|call| status(call) == Some(200)));
    assert_eq!(status(&mut stack.send("e")), Some(200));
    assert_eq!(status(&mut stack.send("f")), None, "a wait has charged nothing");
}

/// A request waits no longer than its gRPC client, and a request that is shed does not wait.
#[test]
fn a_request_that_cannot_use_a_wait_is_refused_at_once() {
    let mut stack = Stack::new(builder("1/s").wait_at_most(SECONDS(5)));
    assert_eq!(status(&mut stack.send("a")), Some(200));
    let with_timeout =
        |timeout: &str| Request::get("/").header("x-client", "a").header("grpc-timeout", timeout.to_owned());
    assert_eq!(refused(&mut stack.request(with_timeout("1S"))), (429, 2));
    assert_eq!(status(&mut stack.request(with_timeout("1010m"))), None);

    let mut stack = Stack::new(builder("1/s").suppressed(1.0).wait_at_most(SECONDS(5)));
    assert_eq!(status(&mut stack.send("a")), Some(200));
    assert_eq!(refused(&mut stack.send("a")).0, 429);

    let costly = builder("1/s").cost(|_| 2).wait_at_most(SECONDS(5));
    assert_eq!(refused(&mut Stack::new(costly).send("a")), (429, 0), "no wait helps");
}

fn outgoing(quota: &str) -> RateLimitLayerBuilder {
    RateLimitLayer::outgoing(quota).heed_retry_after()
}

#[test]
fn a_client_sends_nothing_until_the_server_allows_it() {
    let mut stack = Stack::new(outgoing("50/s").wait_at_most(SECONDS(3)));
    for refusal in [429, 503] {
        stack.server.will_answer(refusal, Some("2"));
        assert_eq!(status(&mut stack.send("a")), Some(refusal), "the server's response passes through");
        let served = stack.server.served();
        let mut waiting = [stack.send("a"), stack.send("b")];
        stack.pass(1_999);
        assert!(waiting.iter_mut().all(|call| status(call).is_none()));
        assert_eq!(stack.server.served(), served);
        stack.pass(1);
        assert!(waiting.iter_mut().all(|call| status(call) == Some(200)));
    }
    stack.server.will_answer(429, Some("4"));
    assert_eq!(status(&mut stack.send("a")), Some(429));
    assert_eq!(refused(&mut stack.send("a")), (429, 4), "the pause is longer than a request can wait");
    stack.pass(1_000);
    assert_eq!(status(&mut stack.send("a")), None);
}

#[test]
fn a_client_heeds_only_what_asks_for_a_pause() {
    let mut stack = Stack::new(outgoing("50/s").heed_retry_after_at_most(SECONDS(60)));
    for (answer, retry_after) in [(200, Some("9")), (429, None), (503, None), (429, Some("soon")), (301, Some("9"))] {
        stack.server.will_answer(answer, retry_after);
        assert_eq!(status(&mut stack.send("a")), Some(answer));
    }
    assert_eq!(status(&mut stack.send("a")), Some(200));
    let date = httpdate::fmt_http_date(SystemTime::now() + SECONDS(30));
    stack.server.will_answer(503, Some(&date));
    assert_eq!(status(&mut stack.send("a")), Some(503));
    let (status_now, wait) = refused(&mut stack.send("a"));
    assert!(status_now == 429 && (20..=31).contains(&wait), "{wait}");
    stack.pass(31_000);
    stack.server.will_answer(429, Some("86400"));
    assert_eq!(status(&mut stack.send("a")), Some(429));
    assert_eq!(refused(&mut stack.send("a")), (429, 60), "no longer than the bound");

    let mut ignoring = Stack::new(RateLimitLayer::outgoing("50/s").wait_at_most(SECONDS(3)));
    ignoring.server.will_answer(429, Some("9"));
    assert_eq!((status(&mut ignoring.send("a")), status(&mut ignoring.send("a"))), (Some(429), Some(200)));
}

#[test]
fn a_pause_holds_for_one_server() {
    let mut stack = Stack::new(outgoing("2/s").key(TargetHost).wait_at_most(SECONDS(2)));
    stack.server.will_answer(429, Some("5"));
    assert_eq!(status(&mut stack.request(Request::get("https://a.example/"))), Some(429));
    assert_eq!(refused(&mut stack.request(Request::get("https://A.example:443/other"))), (429, 5));
    for _ in 0..2 {
        assert_eq!(status(&mut stack.request(Request::get("https://b.example/"))), Some(200));
    }
    assert_eq!(status(&mut stack.request(Request::get("https://b.example/"))), None, "it has a limit of its own");
}

#[test]
fn an_update_keeps_pauses_and_queues() {
    let (clock, builder) = (ManualClock::new(), || outgoing("2/s").wait_at_most(SECONDS(9)));
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let layer = builder().limiter(rl.local()).build().unwrap();
    let mut stack = Stack::of(&layer, clock);
    stack.server.will_answer(429, Some("5"));
    assert_eq!(status(&mut stack.send("a")), Some(429));
    let mut first = stack.send("a");
    assert_eq!(status(&mut first), None);
    layer.control().update(builder()).unwrap();
    let mut second = stack.send("a");
    assert_eq!(status(&mut second), None, "the pause still holds");
    stack.pass(5_000);
    assert_eq!((status(&mut second), status(&mut first)), (None, Some(200)), "in their order");
    assert_eq!(status(&mut second), Some(200));
    let error = RateLimitLayer::outgoing("50 a second").build().unwrap_err();
    assert!(matches!(error, ConfigError::InvalidQuota(_)), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Two limits, clients that wait and clients that leave: no window admits too much, and all who stay are admitted.
    #[test]
    fn waiting_requests_fill_all_limits_and_exceed_none(
        steps in prop::collection::vec((0_u8..3, 0_u64..4, prop::bool::weighted(0.15)), 1..60)
    ) {
        let limits = RateLimitLayer::builder()
            .limit(Limit::per(Header::new("x-client")).quota("2/s").name("client"))
            .limit(Limit::per(Global).quota("3/s").name("everyone"))
            .wait_at_most(SECONDS(1_000))
            .max_waiting_per_key(1_000);
        let mut stack = Stack::new(limits);
        let (mut waiting, mut admitted, mut now, mut left) = (Vec::<(u8, Call)>::new(), Vec::new(), 0_u64, 0);
        let rest = std::iter::repeat_n((9, 50, false), 30);
        for (client, ticks, leaves) in steps.iter().copied().chain(rest) {
            if client < 9 {
                let call = stack.send(&client.to_string());
                waiting.push((client, call));
            }
            for _ in 0..=ticks {
                let served = stack.server.served();
                waiting.retain_mut(|(client, call)| match status(call) {
                    Some(200) => {
                        admitted.push((now, *client));
                        false
                    }
                    Some(_) => unreachable!("it can wait"),
                    None => true,
                });
                prop_assert!(stack.server.served() - served <= 3);
                stack.pass(100);
                now += 100;
            }
            if leaves && !waiting.is_empty() {
                drop(waiting.remove(waiting.len() / 2));
                left += 1;
            }
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!(admitted.len() + left, steps.len());
        for (from, who) in &admitted {
            let within = |(at, _): &&(u64, u8)| (*from..*from + 1_000).contains(at);
            prop_assert!(admitted.iter().filter(within).count() <= 3);
            prop_assert!(admitted.iter().filter(within).filter(|(_, client)| client == who).count() <= 2);
        }
    }
}

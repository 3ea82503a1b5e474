//! A permit returns once, at the end of the request, however it ends.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::layer::{LimitMode, Permits, RateLimitHandle};
use tower_weir::{Global, Limit, RateLimitLayer};

use super::{cap, in_flight, layer, request};
use crate::frames::{After, frames};
use crate::support::http::within;
use crate::support::probe::Deferred;

/// Drops everything after the n-th poll, for every n, of a request that also charges and settles another limit.
#[tokio::test]
async fn a_request_that_is_dropped_after_any_poll_returns_its_permit() {
    for (with_trailers, settles) in [(false, false), (true, false), (true, true)] {
        let mut ends = 0;
        for polls in 0..24 {
            let other = Limit::per(Global).quota("100/h").name("other");
            let other = if settles { other.settle_at_end(|charge, _| charge.refund()) } else { other };
            let layer = layer([cap(1), other]);
            let service = service_fn(move |_: Request<Body>| async move {
                After(3).await;
                Ok::<_, Infallible>(Response::new(frames(4, &[7; 10], with_trailers)))
            });
            let (mut left, mut cx) = (polls, Context::from_waker(Waker::noop()));
            let mut response = None;
            {
                let mut call = pin!(layer.layer(service).oneshot(request("a")));
                while left > 0 && response.is_none() {
                    left -= 1;
                    if let Poll::Ready(answer) = call.as_mut().poll(&mut cx) {
                        response = Some(answer.unwrap());
                    }
                    assert_eq!(in_flight(&layer, "a").await, 1, "while it runs");
                }
            }
            if let Some(response) = response {
                let (mut body, mut is_over) = (Box::pin(response.into_body()), false);
                while left > 0 && !is_over {
                    assert_eq!(in_flight(&layer, "a").await, 1, "until the last frame");
                    left -= 1;
                    is_over = match body.as_mut().poll_frame(&mut cx) {
                        Poll::Ready(Some(frame)) => frame.unwrap().is_trailers(),
                        Poll::Ready(None) => true,
                        Poll::Pending => false,
                    };
                }
                ends += u32::from(is_over);
                assert_eq!(in_flight(&layer, "a").await, u64::from(!is_over), "at once, while the body is still there");
            }
            assert_eq!(in_flight(&layer, "a").await, 0, "after {polls} polls");
        }
        assert!(ends > 4, "{ends}");
    }
}

#[tokio::test]
async fn a_body_that_fails_or_is_known_to_end_returns_its_permit_before_it_is_dropped() {
    let layer = layer([cap(1)]);
    let fails = service_fn(async |_: Request<Body>| {
        let data = stream::iter([Ok(Frame::data(Bytes::from("half"))), Err("the disk is gone")]);
        Ok::<_, Infallible>(Response::new(StreamBody::new(data)))
    });
    let mut body = Box::pin(layer.layer(fails).oneshot(request("a")).await.unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(in_flight(&layer, "a").await, 1);
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(in_flight(&layer, "a").await, 0);
    for text in ["", "hello"] {
        let service =
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(Body::from(text))) });
        let mut body = layer.layer(service).oneshot(request("a")).await.unwrap().into_body();
        assert_eq!(in_flight(&layer, "a").await, 1);
        if !text.is_empty() {
            body.frame().await.unwrap().unwrap();
        }
        assert!(body.is_end_stream());
        assert_eq!(in_flight(&layer, "a").await, 0, "{text:?}");
    }
}

#[tokio::test]
async fn errors_panics_and_refusals_inside_return_their_permits() {
    let layer = layer([cap(1)]);
    let fails = service_fn(async |_: Request<Body>| Err::<Response<Body>, _>("failed"));
    let mut call = Box::pin(layer.layer(fails).oneshot(request("a")));
    assert!(call.as_mut().now_or_never().unwrap().is_err());
    assert_eq!(in_flight(&layer, "a").await, 0, "before the future is dropped");
    let panics =
        service_fn(async |_: Request<Body>| -> Result<Response<Body>, Infallible> { panic!("in the handler") });
    let call = AssertUnwindSafe(layer.layer(panics).oneshot(request("a"))).catch_unwind();
    assert!(call.await.is_err());
    assert_eq!(in_flight(&layer, "a").await, 0);
    let inner = super::layer([Limit::per(Global).quota("1/h").name("inner")]);
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    let stacked = layer.layer(inner.layer(hello));
    for (status, _) in [(200, 0), (429, 1)] {
        let response = stacked.clone().oneshot(request("a")).await.unwrap();
        assert_eq!((response.status().as_u16(), in_flight(&layer, "a").await), (status, 1));
        response.into_body().collect().await.unwrap();
        assert_eq!(in_flight(&layer, "a").await, 0);
    }
}

/// Whichever limit comes first, a request that another limit refuses holds nothing.
#[tokio::test]
async fn a_request_that_another_limit_refuses_holds_no_permit() {
    let quota = || Limit::per(Global).quota("2/h").name("quota");
    for limits in [[cap(5), quota()], [quota(), cap(5)]] {
        let layer = layer(limits);
        let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
        let mut held = Vec::new();
        for (status, in_use) in [(200, 1), (200, 2), (429, 2), (429, 2)] {
            let response = layer.layer(hello).oneshot(request("a")).await.unwrap();
            assert_eq!((response.status().as_u16(), in_flight(&layer, "a").await), (status, in_use));
            held.push(response);
        }
        drop(held);
        assert_eq!(in_flight(&layer, "a").await, 0);
    }
    let layer = layer([cap(1), quota()]);
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    let held = layer.layer(hello).oneshot(request("a")).await.unwrap();
    assert_eq!(layer.layer(hello).oneshot(request("a")).await.unwrap().status(), 429);
    let used = layer.control().limit("quota").unwrap().global().usage().await.unwrap().unwrap().used();
    assert_eq!(
        (held.status().as_u16(), used),
        (200, 1),
        "nor does a request that the cap refuses charge another limit"
    );
}

/// A request beyond the cap is admitted, and holds nothing that it could return.
#[tokio::test]
async fn in_shadow_a_request_beyond_the_cap_holds_no_permit() {
    let layer = layer([cap(2).shadow()]);
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    let mut held = Vec::new();
    for in_use in [1, 2, 2, 2] {
        held.push(layer.layer(hello).oneshot(request("a")).await.unwrap());
        assert_eq!((held.last().unwrap().status().as_u16(), in_flight(&layer, "a").await), (200, in_use));
    }
    drop(held.split_off(2));
    assert_eq!(in_flight(&layer, "a").await, 2);
    layer.control().limit("cap").unwrap().set_mode(LimitMode::EnforceFor(100.0)).unwrap();
    assert_eq!(layer.layer(hello).oneshot(request("a")).await.unwrap().status(), 429);
    layer.control().limit("cap").unwrap().off();
    held.push(layer.layer(hello).oneshot(request("a")).await.unwrap());
    drop(held);
    assert_eq!(in_flight(&layer, "a").await, 0, "requests that began while it was enforced end as they began");
}

/// As many as the cap are in flight at a time, and no more, with threads that race for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_bodies_live_than_the_cap_and_that_many_do() {
    const MOST: u64 = 5;
    let layer = layer([cap(MOST)]);
    let alive = Arc::new(AtomicU64::new(0));
    let admitted = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&alive);
    let service = service_fn(move |_: Request<Body>| {
        let counts = Arc::clone(&counts);
        async move {
            counts.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Response::new(frames(4, &[7; 10], false)))
        }
    });
    let task = |seed: u64| {
        let (layer, service, alive) = (layer.clone(), service.clone(), Arc::clone(&alive));
        let admitted = Arc::clone(&admitted);
        tokio::spawn(async move {
            for round in 0..200 {
                let response = layer.layer(service.clone()).oneshot(request("a")).await.unwrap();
                if response.status() == 200 {
                    let now = alive.load(Ordering::SeqCst);
                    assert!(now <= MOST, "{now} bodies");
                    admitted.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    // Counted as gone just before the permit returns.
                    alive.fetch_sub(1, Ordering::SeqCst);
                    if (seed + round).is_multiple_of(2) {
                        let _ = response.into_body().collect().await;
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    };
    for ended in join_all((0..16).map(task)).await {
        ended.unwrap();
    }
    assert_eq!(in_flight(&layer, "a").await, 0);
    // How many depends on the machine. That the cap can be filled follows.
    assert!(admitted.load(Ordering::SeqCst) > 0);
    let mut held = Vec::new();
    for _ in 0..MOST {
        held.push(layer.layer(service.clone()).oneshot(request("a")).await.unwrap());
    }
    assert!(held.iter().all(|response| response.status() == 200));
    assert_eq!(layer.layer(service.clone()).oneshot(request("a")).await.unwrap().status(), 429);
    assert_eq!(layer.layer(service).oneshot(request("b")).await.unwrap().status(), 200, "another key");
}

/// The store charges a request after its client is gone.
#[tokio::test]
async fn a_permit_that_is_charged_after_the_request_was_dropped_returns() {
    let store = Deferred::default();
    let layer = RateLimitLayer::builder().limit(cap(1).limiter(store.clone())).build().unwrap();
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    let mut call = Box::pin(layer.layer(hello).oneshot(request("a")));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    assert_eq!(store.refunds(), 0);
    store.settle(true);
    within(async {
        while store.refunds() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // And of a request that waits for the store until it is admitted.
    let mut call = Box::pin(layer.layer(hello).oneshot(request("a")));
    assert!(call.as_mut().now_or_never().is_none());
    store.settle(true);
    let response = within(call).await.unwrap();
    assert_eq!(store.refunds(), 1);
    drop(response);
    assert_eq!(store.refunds(), 2);
    // A refusal charges nothing.
    let mut call = Box::pin(layer.layer(hello).oneshot(request("a")));
    assert!(call.as_mut().now_or_never().is_none());
    store.settle(false);
    assert_eq!(within(call).await.unwrap().status(), 429);
    assert_eq!(store.refunds(), 2);
}

/// A store cannot tell one refund from two, so a refusal by another limit must refund once, and a refusal in shadow never.
#[tokio::test]
async fn a_permit_is_refunded_once_and_only_if_it_was_charged() {
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    let store = Deferred::default();
    let quota = Limit::per(Global).quota("1/h").name("quota");
    let layer = RateLimitLayer::builder().limit(cap(1).limiter(store.clone())).limit(quota).build().unwrap();
    for (status, refunds) in [(200, 1), (429, 2)] {
        let mut call = Box::pin(layer.layer(hello).oneshot(request("a")));
        assert!(call.as_mut().now_or_never().is_none());
        store.settle(true);
        let response = within(call).await.unwrap();
        assert_eq!(response.status(), status);
        drop(response);
        assert_eq!(store.refunds(), refunds);
    }
    let store = Deferred::default();
    let layer = RateLimitLayer::builder().limit(cap(1).limiter(store.clone()).shadow()).build().unwrap();
    for (is_admitted, refunds) in [(false, 0), (true, 1), (false, 1)] {
        let mut call = Box::pin(layer.layer(hello).oneshot(request("a")));
        assert!(call.as_mut().now_or_never().is_none());
        store.settle(is_admitted);
        let response = within(call).await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
        assert_eq!(store.refunds(), refunds);
    }
}

/// A task of the handler outlives the response. The handle itself does not hold permits.
#[tokio::test]
async fn the_request_ends_with_the_last_of_its_response_and_its_tasks() {
    let layer = layer([cap(1)]);
    let kept = Arc::new(std::sync::Mutex::new(None::<(RateLimitHandle, Permits)>));
    let keeps = Arc::clone(&kept);
    let service = service_fn(move |request: Request<Body>| {
        let handle = request.extensions().get::<RateLimitHandle>().unwrap().clone();
        let permits = handle.permits();
        *keeps.lock().unwrap() = Some((handle, permits));
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    drop(layer.layer(service.clone()).oneshot(request("a")).await.unwrap());
    let (handle, permits) = kept.lock().unwrap().take().unwrap();
    assert!(!permits.is_empty());
    let clone = permits.clone();
    drop(permits);
    assert_eq!(in_flight(&layer, "a").await, 1);
    drop(clone);
    assert_eq!(in_flight(&layer, "a").await, 0);
    assert!(handle.permits().is_empty(), "the request has ended");
    // The other order.
    let response = layer.layer(service).oneshot(request("a")).await.unwrap();
    drop(kept.lock().unwrap().take().unwrap());
    assert_eq!(in_flight(&layer, "a").await, 1);
    drop(response);
    assert_eq!(in_flight(&layer, "a").await, 0);
}

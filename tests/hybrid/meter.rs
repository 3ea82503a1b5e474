//! Metered responses on every store: what is in use in the end is what was sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::layer::{AtLimit, IntoStore, RateLimitBody};
use tower_weir::{Global, Limit, RateLimitLayer, RateLimiter};

use crate::support::servers::{Flavor, Server};
use crate::{limiter, until_used, used};

type Frames = StreamBody<Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// Each byte of a frame is a unit. A request reserves 10.
fn layer(store: impl IntoStore, at_limit: AtLimit) -> RateLimitLayer {
    let limit = Limit::per(Global).quota("2000/h").name("units").cost(|_| 10);
    let limit = limit.meter(|data| data.len() as u64).at_limit(at_limit);
    RateLimitLayer::builder().limit(limit).limiter(store).build().unwrap()
}

/// The response to a request for frames of so many bytes; `None` if it is refused.
async fn get(layer: &RateLimitLayer, frames: Vec<usize>) -> Option<RateLimitBody<Frames>> {
    let frames = frames.into_iter().map(|len| Ok(Frame::data(Bytes::from(vec![7; len]))));
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(frames)));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let frames = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(stream::iter(frames)) as _))) }
    }));
    let response = service.oneshot(Request::new(())).await.unwrap();
    response.status().is_success().then(|| response.into_body())
}

/// Each store with the layers of two instances.
fn stores(limiters: &[RateLimiter; 2], at_limit: &AtLimit) -> Vec<(&'static str, [RateLimitLayer; 2])> {
    let both = |layer: &dyn Fn(&RateLimiter) -> RateLimitLayer| limiters.each_ref().map(layer);
    let local = layer(limiters[0].local(), at_limit.clone());
    vec![
        ("local", [local.clone(), local]),
        ("redis", both(&|rl| layer(rl.redis(), at_limit.clone()))),
        ("hybrid", both(&|rl| layer(rl.hybrid(), at_limit.clone()))),
    ]
}

/// Streams that are shorter or longer than expected, are dropped half read, or are ended by the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_in_the_end_is_what_was_sent() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        for at_limit in [AtLimit::EndStream, AtLimit::Finish { at_most: 40 }] {
            let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
            for (store, layers) in stores(&limiters, &at_limit) {
                layers[0].control().limit("units").unwrap().global().reset().await.unwrap();
                let (sent, cut) = (AtomicU64::new(0), AtomicU64::new(0));
                let worker = |worker: u64| {
                    let (layers, sent, cut) = (&layers, &sent, &cut);
                    async move {
                        let mut random = fastrand::Rng::with_seed(worker);
                        for _ in 0..12 {
                            let frames = (0..random.usize(0..12)).map(|_| random.usize(0..9)).collect();
                            let Some(mut body) = get(&layers[random.usize(0..2)], frames).await else { continue };
                            for _ in 0..random.usize(0..14) {
                                match body.frame().await {
                                    Some(Ok(frame)) => {
                                        sent.fetch_add(frame.data_ref().unwrap().len() as u64, Ordering::Relaxed);
                                    }
                                    Some(Err(_)) => drop(cut.fetch_add(1, Ordering::Relaxed)),
                                    None => break,
                                }
                                if random.u32(0..4) == 0 {
                                    tokio::time::sleep(Duration::from_millis(random.u64(0..8))).await;
                                }
                            }
                        }
                    }
                };
                join_all((0..10).map(worker)).await;
                let (sent, cut) = (sent.into_inner(), cut.into_inner());
                println!("{flavor} {store} {at_limit:?}: {sent} units sent, {cut} cut");
                assert!(sent > 1_000, "{store}: {sent}");
                // A hybrid store counts the units of leases as used until they return.
                until_used(&layers[1], sent, store).await;
            }
        }
    }
}

/// The limit is full while two instances send. Nothing beyond it is sent, or no more than was declared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_goes_beyond_the_limit() {
    let server = Server::start(Flavor::Debian);
    for (at_limit, beyond) in [(AtLimit::EndStream, 0), (AtLimit::Finish { at_most: 40 }, 20 * 40)] {
        let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
        for (store, layers) in stores(&limiters, &at_limit) {
            layers[0].control().limit("units").unwrap().global().reset().await.unwrap();
            let sent = AtomicU64::new(0);
            let stream = |at: usize| {
                let (layers, sent) = (&layers, &sent);
                async move {
                    let Some(mut body) = get(&layers[at % 2], vec![5; 1_000]).await else { return };
                    while let Some(Ok(frame)) = body.frame().await {
                        sent.fetch_add(frame.data_ref().unwrap().len() as u64, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                }
            };
            join_all((0..20).map(stream)).await;
            let sent = sent.into_inner();
            println!("{store} {at_limit:?}: {sent} of 2000 units sent");
            assert!(sent <= 2_000 + beyond, "{store}: {sent}");
            assert!(sent >= 1_500 + beyond / 4, "{store}: {sent}");
            until_used(&layers[0], sent, store).await;
        }
    }
}

/// The client hangs up while the store turns the cost of the request into a reservation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_dropped_while_its_reservation_begins_returns_everything() {
    let server = Server::start(Flavor::Debian);
    let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
    for (store, layers) in stores(&limiters, &AtLimit::EndStream) {
        for polls in 0..2 {
            let mut body = get(&layers[0], vec![3]).await.unwrap();
            assert_eq!(used(&layers[1]).await, 10, "{store}");
            let mut sent = 0;
            for _ in 0..polls {
                // If this thread stalls, the store has answered before the first poll ends.
                let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
                sent += if frame.is_ready() { 3 } else { 0 };
            }
            drop(body);
            assert!(store != "local" || sent == 3 * polls);
            until_used(&layers[1], sent, store).await;
            layers[1].control().limit("units").unwrap().global().reset().await.unwrap();
        }
    }
}

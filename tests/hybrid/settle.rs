//! Charges that the response settles, on every store: what is in use in the end is what was settled.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::layer::IntoStore;
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::support::servers::{Flavor, Server};
use crate::{limiter, until_used};

/// A request is charged 10 units until the end of its body, and then one for each byte that was taken.
fn layer(store: impl IntoStore) -> RateLimitLayer {
    let limit = Limit::per(Global).quota("100000/h").name("bytes").cost(|_| 10);
    let limit = limit.settle_at_end(|charge, end| charge.set(end.bytes()));
    RateLimitLayer::builder().limit(limit).limiter(store).build().unwrap()
}

/// Two instances serve tasks whose responses are shorter or longer than expected, or are dropped half read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_in_the_end_is_what_was_settled() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
        let both = |layer: fn(&tower_weir::RateLimiter) -> RateLimitLayer| limiters.each_ref().map(layer);
        let local = layer(limiters[0].local());
        let stores = [
            ("local", [local.clone(), local]),
            ("redis", both(|rl| layer(rl.redis()))),
            ("hybrid", both(|rl| layer(rl.hybrid()))),
        ];
        for (store, layers) in stores {
            layers[0].control().limit("bytes").unwrap().global().reset().await.unwrap();
            let settled = Arc::new(AtomicU64::new(0));
            let tasks = (0..8_usize).map(|task| {
                let (layer, settled) = (layers[task % 2].clone(), Arc::clone(&settled));
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(task as u64);
                    for _ in 0..25 {
                        let frames = random.usize(0..=6);
                        let service = service_fn(move |_: Request<()>| async move {
                            let frame = |_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[7; 5])));
                            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter((0..frames).map(frame)))))
                        });
                        let response = layer.layer(service).oneshot(Request::new(())).await.unwrap();
                        assert_eq!(response.status(), 200, "there is room for all");
                        let (mut body, mut bytes) = (response.into_body(), 0);
                        for _ in 0..random.usize(0..=frames) {
                            bytes += body.frame().await.unwrap().unwrap().into_data().unwrap().len() as u64;
                        }
                        drop(body);
                        settled.fetch_add(bytes, Ordering::Relaxed);
                    }
                })
            });
            join_all(tasks).await.into_iter().for_each(Result::unwrap);
            let (want, began) = (settled.load(Ordering::Relaxed), Instant::now());
            until_used(&layers[0], want, &format!("{flavor}, {store}")).await;
            println!("{flavor}, {store}: {want} units, {:?} after the last response", began.elapsed());
        }
    }
}

/// A lease ends after at most two seconds. The charge of a longer request is settled nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_longer_than_a_lease_is_settled() {
    let server = Server::start(Flavor::available()[0]);
    let layer = layer(limiter(&server, 60, 50).hybrid());
    let service = service_fn(|_: Request<()>| async move {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter([Ok::<_, Infallible>(Frame::data(
            Bytes::from_static(&[7; 3]),
        ))]))))
    });
    let ask = async || {
        let response = layer.layer(service).oneshot(Request::new(())).await.unwrap();
        response.into_body().collect().await.unwrap();
    };
    tokio::join!(ask(), ask(), ask());
    until_used(&layer, 9, "three long requests").await;
}

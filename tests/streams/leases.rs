//! Reservations on a hybrid store while the frames of other streams use a lease of the same key.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::support::http::within;
use crate::support::servers::{Flavor, Server};
use crate::{limiter, until, used};

/// The units of a frame.
const FRAME: u64 = 10;
/// The units that a request reserves.
const RESERVED: u64 = 50;

/// A request reserves its units in Redis, and not from a lease, which may be over before the response is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_outlives_the_leases_of_its_key() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(&server.url(), 1);
    let limit = Limit::per(Global).quota("1000000/h").name("units").cost(|_| RESERVED).meter(|_| FRAME);
    let layer = RateLimitLayer::builder().limit(limit).limiter(rl.hybrid()).build().unwrap();
    let service = layer.layer(service_fn(async |_: Request<()>| {
        let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"a frame"))));
        Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
    }));
    let open = async || within(service.clone().oneshot(Request::new(()))).await.unwrap().into_body();
    let mut sent = 0;
    let mut busy = open().await;
    let mut others = Vec::new();
    for frame in 0..2_000 {
        assert!(within(busy.frame()).await.unwrap().is_ok());
        sent += FRAME;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if frame % 100 == 99 {
            let mut body = open().await;
            assert!(within(body.frame()).await.unwrap().is_ok());
            sent += FRAME;
            others.push(body);
        }
    }
    drop(busy);
    // A lease lasts for two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(others);
    until("only what was sent is charged", async || used(&layer).await == sent).await;
}

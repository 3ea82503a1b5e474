//! The count is that of the requests in flight, on two instances, alone and together with other limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::{Global, Limit};

use super::{Held, cap, hold, instance, send, until, used};
use crate::support::servers::{Flavor, Server};

/// Random requests on both instances, one after the other, against a list of those in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_admit_exactly_what_a_list_of_the_requests_in_flight_says() {
    let server = Server::start(Flavor::Debian);
    for (seed, kinds) in [[false, false], [true, false], [true, true]].into_iter().enumerate() {
        let most = 3;
        // With a second limit, both are decided in one step on the Redis store.
        let other = || (seed == 0).then(|| Limit::per(Global).quota("1000000/h").name("other"));
        let name = format!("cap{seed}");
        let instances = kinds.map(|is_hybrid| instance(&server, is_hybrid, [cap(most)].into_iter().chain(other())));
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let clients = ["a", "b", "c"].map(|client| format!("{client}{name}"));
        let (mut held, mut count): (Vec<(usize, Held)>, [u64; 3]) = (Vec::new(), [0; 3]);
        for step in 0..250 {
            let at = random.usize(0..clients.len());
            if random.u32(0..10) < 6 || held.is_empty() {
                let response = send(&instances[random.usize(0..2)], &clients[at]).await;
                let want = if count[at] < most { 200 } else { 429 };
                assert_eq!(response.status().as_u16(), want, "step {step}: {} of {most} in flight", count[at]);
                if want == 200 {
                    count[at] += 1;
                    held.push((at, response));
                }
            } else {
                let (at, response) = held.swap_remove(random.usize(0..held.len()));
                drop(response);
                count[at] -= 1;
                until(&instances[random.usize(0..2)], &clients[at], count[at]).await;
            }
        }
        drop(held);
        for client in &clients {
            until(&instances[0], client, 0).await;
        }
    }
}

/// As many as the cap are in flight on both instances together, and never more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_bodies_live_on_two_instances_than_the_cap() {
    const MOST: u64 = 4;
    let server = Server::start(Flavor::Debian);
    let instances = [false, true].map(|is_hybrid| instance(&server, is_hybrid, [cap(MOST)]));
    let (alive, admitted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = Arc::clone(&alive);
    let service = service_fn(move |_: Request<()>| {
        let counts = Arc::clone(&counts);
        async move {
            counts.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
        }
    });
    let task = |number: usize| {
        let service = instances[number % 2].layer(service.clone());
        let (alive, admitted) = (Arc::clone(&alive), Arc::clone(&admitted));
        tokio::spawn(async move {
            for _ in 0..60 {
                let request = Request::get("/").header("x-client", "a").body(()).unwrap();
                let response = service.clone().oneshot(request).await.unwrap();
                if response.status() == 200 {
                    let now = alive.load(Ordering::SeqCst);
                    assert!(now <= MOST, "{now} bodies");
                    admitted.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    alive.fetch_sub(1, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
            }
        })
    };
    for ended in join_all((0..12).map(task)).await {
        ended.unwrap();
    }
    // How many depends on the machine. That the cap can be filled follows.
    assert!(admitted.load(Ordering::SeqCst) > 0);
    until(&instances[0], "a", 0).await;
    let held = [hold(&instances[0], "a", 2).await, hold(&instances[1], "a", 2).await];
    for instance in &instances {
        let refused = send(instance, "a").await;
        assert_eq!((refused.status().as_u16(), refused.headers().get("retry-after")), (429, None));
    }
    drop(held);
    until(&instances[1], "a", 0).await;
}

/// Another instance may end what fills the cap at any time, so a refusal is not remembered.
#[tokio::test]
async fn a_permit_that_another_instance_returns_is_free_at_once() {
    let server = Server::start(Flavor::Debian);
    for is_hybrid in [false, true] {
        let [one, two] = [0, 1].map(|_| instance(&server, is_hybrid, [cap(1)]));
        let held = hold(&one, "a", 1).await;
        for _ in 0..3 {
            assert_eq!(send(&two, "a").await.status(), 429);
        }
        drop(held);
        until(&one, "a", 0).await;
        let next = send(&two, "a").await;
        assert_eq!(next.status(), 200, "hybrid: {is_hybrid}");
        drop(next);
        until(&one, "a", 0).await;
    }
}

#[tokio::test]
async fn a_request_that_another_limit_refuses_holds_no_permit() {
    let server = Server::start(Flavor::Debian);
    for (case, is_hybrid) in [(0, false), (1, false), (2, true), (3, true)] {
        let quota = Limit::per(Global).quota("2/h").name(format!("quota{case}"));
        let limits = if case % 2 == 0 { [cap(5), quota] } else { [quota, cap(5)] };
        let layer = instance(&server, is_hybrid, limits);
        let client = format!("client{case}");
        let held = hold(&layer, &client, 2).await;
        for _ in 0..3 {
            assert_eq!(send(&layer, &client).await.status(), 429);
        }
        until(&layer, &client, 2).await;
        drop(held);
        until(&layer, &client, 0).await;
    }
}

/// A client hangs up while Redis decides. Redis then charges the request, and its permit returns long before its time to
/// live has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_redis_charges_after_the_request_was_dropped_returns() {
    let server = Server::start(Flavor::Debian);
    for is_joint in [false, true] {
        let cap = cap(1).permit_ttl(Duration::from_secs(300)).name("cap");
        let other = is_joint.then(|| Limit::per(Global).quota("100/h").name("other"));
        let layer = instance(&server, false, [cap].into_iter().chain(other));
        drop(send(&layer, "a").await);
        until(&layer, "a", 0).await;
        server.pause();
        let call = tokio::time::timeout(Duration::from_millis(200), send(&layer, "a"));
        assert!(call.await.is_err(), "the server does not answer");
        server.resume();
        // Time for the server to execute the call. On a slower machine, the test shows less.
        tokio::time::sleep(Duration::from_millis(200)).await;
        until(&layer, "a", 0).await;
        drop(hold(&layer, "a", 1).await);
        until(&layer, "a", 0).await;
    }
}

/// The requests go on. The next renewal counts them again.
#[tokio::test]
async fn a_reset_lasts_until_the_next_renewal() {
    let server = Server::start(Flavor::Debian);
    let layer = instance(&server, false, [cap(3)]);
    let held = hold(&layer, "a", 3).await;
    layer.control().limit("cap").unwrap().key("a").reset().await.unwrap();
    let more = send(&layer, "a").await;
    assert_eq!(more.status(), 200);
    until(&layer, "a", 4).await;
    drop((held, more));
    until(&layer, "a", 0).await;
    assert_eq!(used(&layer, "b").await, 0);
}

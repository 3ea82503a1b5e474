//! Random requests in random order, against a list of those in flight.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::layer::RateLimitBody;
use tower_weir::{Global, Limit, ManualClock, RateLimitLayer, RateLimiter};

use super::{cap, request};

type Held = Vec<(usize, Response<RateLimitBody<Body>>)>;

/// Sends a request of a client, and returns its response.
fn send(layer: &RateLimitLayer, client: &str) -> Response<RateLimitBody<Body>> {
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
    layer.layer(hello).oneshot(request(client)).now_or_never().expect("a local store decides at once").unwrap()
}

fn used(layer: &RateLimitLayer, client: &str) -> u64 {
    let control = layer.control();
    let key = control.limit("cap").unwrap().key(client);
    key.usage().now_or_never().unwrap().unwrap().unwrap().used()
}

/// Permits live for milliseconds or for weeks, far beyond what a window of the store can hold.
#[test]
fn the_permits_in_use_are_those_of_the_requests_in_flight_at_every_step() {
    const CLIENTS: [&str; 5] = ["a", "b", "c", "d", "e"];
    for seed in 0..6 {
        let (mut random, clock) = (fastrand::Rng::with_seed(seed), ManualClock::new());
        let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
        let most = [1, 3, 40, 300][seed as usize % 4];
        // The second limit makes the layer decide on both in one step.
        let other = Limit::per(Global).quota("1000000/s").name("other");
        let builder = RateLimitLayer::builder().limit(cap(most)).limiter(rl.local());
        let builder = if seed % 2 == 0 { builder } else { builder.limit(other) };
        let layer = builder.build().unwrap();
        let (mut held, mut count, mut admitted): (Held, [u64; 5], u64) = (Vec::new(), [0; 5], 0);
        // The requests that began before a reset of their key. Their permits are forgotten.
        let mut forgotten: Held = Vec::new();
        for _ in 0..3_000 {
            clock.advance(match random.u32(0..40) {
                0 => Duration::from_secs(random.u64(0..40 * 86_400)),
                1..4 => Duration::from_secs(random.u64(0..7_200)),
                _ => Duration::from_millis(random.u64(0..60)),
            });
            let at = random.usize(0..CLIENTS.len());
            match random.u32(0..20) {
                0 if random.u32(0..20) == 0 => {
                    // The permits of a later tick differ from those that are forgotten.
                    clock.advance(Duration::from_millis(20));
                    layer.control().limit("cap").unwrap().key(CLIENTS[at]).reset().now_or_never().unwrap().unwrap();
                    clock.advance(Duration::from_millis(20));
                    count[at] = 0;
                    forgotten.extend(held.extract_if(.., |(client, _)| *client == at));
                }
                1..11 => {
                    let response = send(&layer, CLIENTS[at]);
                    let fits = count[at] < most;
                    assert_eq!(response.status() == 200, fits, "{} of {most} in flight", count[at]);
                    if fits {
                        count[at] += 1;
                        admitted += 1;
                        held.push((at, response));
                    }
                }
                11..19 if !held.is_empty() => {
                    let (at, response) = held.swap_remove(random.usize(0..held.len()));
                    drop(response);
                    count[at] -= 1;
                }
                _ if !forgotten.is_empty() => drop(forgotten.swap_remove(random.usize(0..forgotten.len()))),
                _ => {}
            }
            assert_eq!(used(&layer, CLIENTS[at]), count[at], "seed {seed}");
        }
        assert!(admitted > 500, "{admitted}");
        drop((held, forgotten));
        for client in CLIENTS {
            assert_eq!(used(&layer, client), 0);
        }
        // No later than the other limit's window.
        clock.advance(Duration::from_secs(3_600));
        let began = Instant::now();
        while rl.local().keys() > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "{} keys stay", rl.local().keys());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A store with room for few keys: beyond them, clients share caps. No client exceeds its cap, none loses a permit, and
/// when all requests have ended, every client is admitted again.
#[test]
fn a_full_store_keeps_every_cap_and_loses_no_permit() {
    for seed in 0..4 {
        let (mut random, clock) = (fastrand::Rng::with_seed(seed), ManualClock::new());
        let rl = RateLimiter::builder().clock(clock.clone()).max_keys(3).build().unwrap();
        let layer = RateLimitLayer::builder().limit(cap(2)).limiter(rl.local()).build().unwrap();
        let clients: Vec<String> = (0..2_000).map(|n| format!("client {n}")).collect();
        let (mut held, mut count): (Held, Vec<u64>) = (Vec::new(), vec![0; clients.len()]);
        let (mut admitted, mut shared) = (0, 0);
        for _ in 0..8_000 {
            clock.advance(Duration::from_secs(random.u64(0..100_000)));
            // With so many in flight, some clients share a cap, whatever the fingerprints are.
            if held.len() < 200 || (random.bool() && held.len() < 400) {
                // Some clients come often.
                let few = if random.bool() { 6 } else { clients.len() };
                let at = random.usize(0..few);
                let response = send(&layer, &clients[at]);
                if response.status() == 200 {
                    count[at] += 1;
                    assert!(count[at] <= 2, "{} has {}", clients[at], count[at]);
                    admitted += 1;
                    held.push((at, response));
                } else if count[at] < 2 {
                    shared += 1;
                }
            } else {
                let (at, response) = held.swap_remove(random.usize(0..held.len()));
                drop(response);
                count[at] -= 1;
            }
        }
        assert!(admitted > 1_000 && shared > 0, "{admitted} {shared}");
        drop(held);
        for client in &clients {
            let both = [send(&layer, client), send(&layer, client)];
            assert!(both.iter().all(|response| response.status() == 200), "{client} lost its cap");
            assert_eq!(send(&layer, client).status(), 429);
        }
    }
}

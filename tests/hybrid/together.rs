//! A layer with several limits on each store: all or nothing, with the same answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::IntoStore;
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::support::servers::{Flavor, Server};
use crate::{limiter, redis};

const CLIENT: u64 = 5;
const TENANT: u64 = 12;
const SERVICE: u64 = 20;

fn layer(store: impl IntoStore) -> RateLimitLayer {
    layer_with(1, store)
}

/// A layer with so many times the limits.
fn layer_with(times: u64, store: impl IntoStore) -> RateLimitLayer {
    let per_hour = |count: u64| format!("{}/h", times * count);
    RateLimitLayer::builder()
        .limit(Limit::per(Header::new("x-client")).quota(&*per_hour(CLIENT)).name("client"))
        .limit(Limit::per(Header::new("x-tenant")).quota(&*per_hour(TENANT)).name("tenant"))
        .limit(Limit::per(Global).quota(&*per_hour(SERVICE)).name("service"))
        .limiter(store)
        .build()
        .unwrap()
}

async fn ask(layer: &RateLimitLayer, client: usize, tenant: usize) -> (bool, Option<u64>) {
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let (client, tenant) = (format!("client {client}"), format!("tenant {tenant}"));
    let request = Request::get("/").header("x-client", client).header("x-tenant", tenant).body(()).unwrap();
    let response = layer.layer(hello).oneshot(request).await.unwrap();
    let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse().unwrap());
    (response.status() == 200, wait)
}

/// The units in use of one key.
async fn used(layer: &RateLimitLayer, limit: &str, key: &str) -> u64 {
    let limit = layer.control().limit(limit).unwrap();
    let key = if key.is_empty() { limit.global() } else { limit.key(key) };
    key.usage().await.unwrap().unwrap().used()
}

/// Waits until a limit has counted what was admitted, and no more: a refund may still be under way.
async fn settles(layer: &RateLimitLayer, limit: &str, key: &str, admitted: u64) {
    let began = Instant::now();
    loop {
        let used = used(layer, limit, key).await;
        if used == admitted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{limit} {key}: {used} in use, {admitted} admitted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Requests one after the other, with the answers of a naive count.
async fn answers_like_a_count(layer: &RateLimitLayer, about: &str) {
    let mut counts: HashMap<(&str, usize), u64> = HashMap::new();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut admitted, mut refused) = (0, 0);
    for n in 0..200 {
        let (client, tenant) = (random.usize(..8), random.usize(..3));
        let keys = [("client", client, CLIENT), ("tenant", tenant, TENANT), ("service", 0, SERVICE)];
        let has_room = keys.iter().all(|(name, key, most)| counts.get(&(name, *key)).is_none_or(|count| count < most));
        let (is_admitted, wait) = ask(layer, client, tenant).await;
        assert_eq!(is_admitted, has_room, "{about}: request {n} of client {client}, tenant {tenant}");
        match is_admitted {
            true => keys.iter().for_each(|(name, key, _)| *counts.entry((name, *key)).or_default() += 1),
            false => assert!(wait.is_some_and(|wait| (3_500..=3_620).contains(&wait)), "{about}: {wait:?}"),
        }
        (admitted, refused) = (admitted + u64::from(is_admitted), refused + u64::from(!is_admitted));
    }
    assert!(admitted == SERVICE && refused > 100);
    for ((name, key), count) in counts {
        let key = if name == "service" { String::new() } else { format!("{name} {key}") };
        assert_eq!(used(layer, name, &key).await, count, "{about}: {name} {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_are_those_of_a_count_in_this_process_and_on_one_server() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let rl = limiter(&server, 60, 50);
        answers_like_a_count(&layer(rl.local()), "local").await;
        answers_like_a_count(&layer(rl.redis()), &format!("{flavor}")).await;
    }
}

/// Many tasks on two instances exceed no limit. A refused request is charged to none, and all that fits is admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_several_limits_are_charged_together_or_not_at_all() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let layers: Vec<_> = (0..2).map(|_| layer(limiter(&server, 60, 50).hybrid())).collect();
        let admitted = Arc::new(AtomicU64::new(0));
        let tasks = (0..8).map(|task| {
            let (layer, admitted) = (layers[task % 2].clone(), Arc::clone(&admitted));
            tokio::spawn(async move {
                let mut by_client = 0;
                for _ in 0..20 {
                    let is_admitted = ask(&layer, task, task % 3).await.0;
                    by_client += u64::from(is_admitted);
                    admitted.fetch_add(u64::from(is_admitted), Ordering::Relaxed);
                }
                by_client
            })
        });
        let by_client: Vec<u64> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        assert!(by_client.iter().all(|count| *count <= CLIENT), "{flavor}: {by_client:?}");
        let total = admitted.load(Ordering::Relaxed);
        assert!(total <= SERVICE, "{flavor}: {total}");
        for (client, count) in by_client.iter().enumerate() {
            settles(&layers[client % 2], "client", &format!("client {client}"), *count).await;
        }
        settles(&layers[0], "service", "", total).await;
        // What was held for requests that were refused is free again, so everything that fits is admitted in the end.
        let began = Instant::now();
        let mut total = total;
        while total < SERVICE {
            for client in 10..20 {
                total += u64::from(ask(&layers[0], client, client).await.0);
            }
            assert!(total <= SERVICE && began.elapsed() < Duration::from_secs(30), "{flavor}: {total} of {SERVICE}");
        }
    }
}

/// With room in all limits nothing is refused, on any store. A lease holds units for its instance, so there is more room
/// than the requests need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_room_in_all_limits_nothing_is_refused() {
    let layers = |rl: &tower_weir::RateLimiter| {
        [
            ("local", layer_with(10, rl.local())),
            ("redis", layer_with(10, rl.redis())),
            ("hybrid", layer_with(10, rl.hybrid())),
        ]
    };
    for store in 0..3 {
        let server = Server::start(Flavor::available()[0]);
        let (name, layer) = layers(&limiter(&server, 60, 50)).into_iter().nth(store).unwrap();
        let asked = (0..48).map(|n| {
            let layer = layer.clone();
            async move { ask(&layer, n, n % 6).await.0 }
        });
        assert!(join_all(asked).await.into_iter().all(|is_admitted| is_admitted), "{name}");
    }
}

/// Each store sets, and forgets, the units of a layer's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_changes_a_key_on_every_store() {
    let server = Server::start(Flavor::available()[0]);
    let rl = limiter(&server, 60, 50);
    for (name, layer) in [("local", layer(rl.local())), ("redis", layer(rl.redis())), ("hybrid", layer(rl.hybrid()))] {
        let client = layer.control().limit("client").unwrap().key("client 1");
        client.set(CLIENT - 1).await.unwrap();
        assert_eq!(client.peek(0).await.unwrap().unwrap().used(), CLIENT - 1, "{name}");
        assert!(ask(&layer, 1, 1).await.0 && !ask(&layer, 1, 1).await.0, "{name}");
        client.reset().await.unwrap();
        assert!(ask(&layer, 1, 1).await.0, "{name}");
        // The other stores use the same names.
        client.reset().await.unwrap();
        layer.control().limit("tenant").unwrap().key("tenant 1").reset().await.unwrap();
        layer.control().limit("service").unwrap().global().reset().await.unwrap();
    }
}

/// A refusal by a server that is down is no refusal by a limit, and charges nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_the_policy_of_each_limit_decides() {
    let server = Server::start(Flavor::available()[0]);
    let rl = tower_weir::RateLimiter::builder().redis(redis(server.url())).build().unwrap();
    let build = |policy| {
        let limit = |name: &'static str| Limit::per(Global).quota("100/h").name(name);
        let layer = RateLimitLayer::builder().limit(limit("a")).limit(limit("b").limiter(rl.local()));
        layer.limiter(rl.redis()).on_store_error(policy).build().unwrap()
    };
    let (reject, allow) = (build(tower_weir::OnStoreError::Reject), build(tower_weir::OnStoreError::Allow));
    let local_used = async |layer: &RateLimitLayer| used(layer, "b", "").await;
    assert!(ask(&reject, 1, 1).await.0);
    assert_eq!(local_used(&reject).await, 1);
    drop(server);
    assert_eq!(ask(&reject, 1, 1).await, (false, None), "503 has no wait");
    assert_eq!(local_used(&reject).await, 1, "the limit in this process gets its unit back");
    assert!(ask(&allow, 1, 1).await.0, "the limit without a store is left out");
    assert_eq!(local_used(&allow).await, 2, "the other one decides and counts");
}

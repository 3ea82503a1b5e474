//! Bans on every store: instances share the refusals that count, and learn of each other's bans.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::{IntoStore, KeyControl};
use tower_weir::{Limit, OnStoreError, RateLimitLayer, RateLimiter};

use crate::support::servers::{Flavor, Server};
use crate::{builder, limiter, redis, scripts};

/// One request in an hour, and after three refusals a ban of two hours.
fn layer(store: impl IntoStore) -> RateLimitLayer {
    let client = Limit::per(Header::new("x-client")).quota("1/h").name("client").ban("3 in 1min for 2h");
    RateLimitLayer::builder().limit(client).limiter(store).build().unwrap()
}

async fn ask(layer: &RateLimitLayer, client: &str) -> (bool, Option<u64>) {
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let response = layer.layer(hello).oneshot(Request::get("/").header("x-client", client).body(()).unwrap()).await;
    let response = response.unwrap();
    let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse().unwrap());
    (response.status() == 200, wait)
}

/// Whether an answer is that of a ban that has just begun. The limit alone waits for an hour.
fn is_banned(answer: (bool, Option<u64>)) -> bool {
    !answer.0 && answer.1.is_some_and(|wait| (7_100..=7_202).contains(&wait))
}

fn key(layer: &RateLimitLayer, client: &str) -> KeyControl {
    layer.control().limit("client").unwrap().key(client)
}

/// Asks until an answer is as expected; returns how long that took.
async fn until(layer: &RateLimitLayer, client: &str, expected: impl Fn((bool, Option<u64>)) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let answer = ask(layer, client).await;
        if expected(answer) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{client}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_count_the_refusals_of_a_key_together() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
        let stores: [fn(&RateLimiter) -> RateLimitLayer; 2] = [|rl| layer(rl.redis()), |rl| layer(rl.hybrid())];
        for (at, layers) in stores.into_iter().map(|layer| limiters.each_ref().map(layer)).enumerate() {
            let client = format!("client of store {at}");
            assert!(ask(&layers[0], &client).await.0, "{flavor} {at}");
            for layer in &layers {
                let answer = ask(layer, &client).await;
                assert!(!answer.0 && !is_banned(answer), "{flavor} {at}: {answer:?}");
            }
            assert!(is_banned(ask(&layers[1], &client).await), "{flavor} {at}: the third refusal begins the ban");
            if at == 0 {
                // An instance repeats a refusal for 50 ms.
                tokio::time::sleep(Duration::from_millis(55)).await;
                assert!(is_banned(ask(&layers[0], &client).await), "{flavor}: on Redis, all instances know at once");
            }
            let learned = until(&layers[0], &client, is_banned).await;
            println!("{flavor}, store {at}: the other instance refused after {learned:?}");
            assert!(ask(&layers[0], &format!("another {at}")).await.0, "other keys are not concerned");
            // The end of a ban reaches the other instance too.
            let (client, hours) = (format!("blocked client of store {at}"), Duration::from_secs(7_200));
            key(&layers[0], &client).block(hours).await.unwrap();
            assert!(is_banned(ask(&layers[0], &client).await) && is_banned(ask(&layers[1], &client).await));
            key(&layers[0], &client).unblock().await.unwrap();
            let learned = until(&layers[1], &client, |answer| answer.0).await;
            println!("{flavor}, store {at}: the other instance admitted after {learned:?}");
        }
    }
}

/// The flood of a banned client is answered from memory, and so is the question whether a client is banned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_costs_redis_few_calls() {
    let server = Server::start(Flavor::available()[0]);
    let rl = limiter(&server, 60, 50);
    for (name, layer) in [("redis", layer(rl.redis())), ("hybrid", layer(rl.hybrid()))] {
        key(&layer, name).block(Duration::from_secs(7_200)).await.unwrap();
        server.reset_stats();
        let began = Instant::now();
        for _ in 0..3_000 {
            assert!(is_banned(ask(&layer, name).await));
        }
        let (calls, most) = (scripts(&server), 40 + began.elapsed().as_millis() as u64 / 20);
        println!("{name}: {calls} calls for 3000 refusals in {:?}", began.elapsed());
        assert!(calls <= most, "{name}: {calls} calls, at most {most}");
    }
    let client = Limit::per(Header::new("x-client")).quota("100000/h").name("busy").ban("3 in 1min for 2h");
    let layer = RateLimitLayer::builder().limit(client).limiter(rl.hybrid()).build().unwrap();
    server.reset_stats();
    let began = Instant::now();
    for _ in 0..3_000 {
        assert!(ask(&layer, "busy").await.0);
    }
    let (calls, most) = (scripts(&server), 40 + began.elapsed().as_millis() as u64 / 10);
    println!("hybrid: {calls} calls for 3000 admissions in {:?}", began.elapsed());
    assert!(calls <= most, "{calls} calls, at most {most}");
}

/// Without Redis, an instance still refuses the clients of which it knows that they are banned, and admits others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_ban_stands_while_redis_is_down() {
    let server = Server::start(Flavor::available()[0]);
    let options = redis(server.url()).on_store_error(OnStoreError::LocalShare).deadline(Duration::from_millis(100));
    let rl = builder(options, 60, 50).build().unwrap();
    let layers = [layer(rl.redis()), layer(rl.hybrid())];
    let hours = Duration::from_secs(7_200);
    for (layer, client) in layers.iter().zip(["of redis", "of hybrid"]) {
        key(layer, client).block(hours).await.unwrap();
        key(layer, "unblocked").block(hours).await.unwrap();
        key(layer, "unblocked").unblock().await.unwrap();
    }
    drop(server);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        for (layer, client) in layers.iter().zip(["of redis", "of hybrid"]) {
            assert!(is_banned(ask(layer, client).await), "{client}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for layer in &layers {
        for client in ["another", "unblocked"] {
            assert!(ask(layer, client).await.0, "a client that is not banned is decided by the share: {layer:?}");
        }
        assert!(key(layer, "another").block(hours).await.is_err(), "a ban needs Redis");
    }
}

/// The keys of a limit and of its ban are in one slot, so one call decides on both.
#[cfg(feature = "redis-cluster")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_decides_on_a_limit_and_its_ban_in_one_call() {
    let cluster = crate::support::servers::Cluster::start(Flavor::available()[0], 3);
    let options = tower_weir::RedisOptions::cluster(cluster.urls()).deadline(Duration::from_secs(1));
    let rl = builder(options.on_store_error(OnStoreError::Reject).instances(1), 60, 50).build().unwrap();
    let layer = layer(rl.redis());
    let clients: Vec<String> = (0..12).map(|client| format!("client {client}")).collect();
    cluster.nodes().iter().for_each(Server::reset_stats);
    for client in &clients {
        assert!(ask(&layer, client).await.0, "{client}");
    }
    let calls: Vec<u64> = cluster.nodes().iter().map(scripts).collect();
    println!("12 admissions: {calls:?} calls");
    // A node that does not know the script is asked once more.
    assert!(calls.iter().sum::<u64>() <= 12 + 3, "{calls:?}");
    for client in &clients {
        let answers = [ask(&layer, client).await, ask(&layer, client).await, ask(&layer, client).await];
        assert_eq!(answers.map(is_banned), [false, false, true], "{client}: {answers:?}");
    }
}

//! Operators of two instances that share limits: each sees its own requests, and acts on both.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, Response};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::IntoStore;
use tower_weir::{Ban, Limit, RateLimitLayer, TopKeys, admin};

use crate::limiter;
use crate::support::servers::{Flavor, Server};

fn layer(store: impl IntoStore) -> RateLimitLayer {
    let limit = Limit::per(Header::new("x-client")).quota("3/h").name("client").ban(Ban::manual());
    RateLimitLayer::builder().limit(limit.top_keys(TopKeys::names(10))).limiter(store).build().unwrap()
}

async fn is_admitted(layer: &RateLimitLayer, client: &str) -> bool {
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let request = Request::get("/").header("x-client", client).body(()).unwrap();
    layer.layer(hello).oneshot(request).await.unwrap().status() == 200
}

/// Asks until a client is admitted or refused, as it soon is.
async fn until(layer: &RateLimitLayer, client: &str, admitted: bool) {
    let began = Instant::now();
    while is_admitted(layer, client).await != admitted {
        assert!(began.elapsed() < Duration::from_secs(30), "{client}: still {}", !admitted);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn operate(layer: &RateLimitLayer, path: &str, body: Option<Value>) -> Value {
    let router: Router = admin::router(layer.control());
    let request = Request::builder().uri(format!("/limits/client/{path}"));
    let request = match body {
        None => request.body(Body::empty()),
        Some(body) => request.method("POST").header("content-type", "application/json").body(body.to_string().into()),
    };
    let response = router.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 16).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_of_two_instances_see_their_own_requests_and_act_on_one_budget() {
    let server = Server::start(Flavor::available()[0]);
    let limiters = [limiter(&server, 60, 50), limiter(&server, 60, 50)];
    let of_redis = limiters.each_ref().map(|rl| layer(rl.redis()));
    let of_hybrid = limiters.each_ref().map(|rl| layer(rl.hybrid()));
    for (client, [first, second]) in [("of redis", of_redis), ("of hybrid", of_hybrid)] {
        for _ in 0..3 {
            assert!(is_admitted(&first, client).await, "{client}");
        }
        until(&second, client, false).await;
        let shown = operate(&second, "top", None).await;
        assert_eq!(shown["keys"][0]["key"], client);
        let of_first = operate(&first, "top?by=requests", None).await;
        assert_eq!(
            (&of_first["requests"], &of_first["refusals"]),
            (&json!(3), &json!(0)),
            "each sees its own requests"
        );

        let key = json!({"key": client});
        let before = operate(&second, "reset", Some(key.clone())).await;
        assert!(before["before"]["used"].as_u64() >= Some(3), "{client}: {before}");
        until(&second, client, true).await;
        // A hybrid instance that knows that the key is full asks Redis again only after the wait.
        operate(&first, "reset", Some(key.clone())).await;
        until(&first, client, true).await;

        operate(&second, "block", Some(json!({"key": client, "seconds": 600}))).await;
        until(&first, client, false).await;
        assert!(operate(&first, "usage", Some(key.clone())).await["now"]["blocked_seconds"].as_u64() > Some(500));
        operate(&first, "unblock", Some(key.clone())).await;
        // Until the first instance knew of the block, it may have admitted all that the quota allows.
        for layer in [&first, &second] {
            operate(layer, "reset", Some(key.clone())).await;
            until(layer, client, true).await;
        }
    }
}

//! The function that sees the decisions of a layer.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use tower_weir::layer::OnMissingKey;
use tower_weir::{Global, Limit, Quotas, RateLimitLayerBuilder};

use crate::limits::{app, ask, builder, client};

/// The decisions on some requests: policy, outcome, reason, and the units in use.
async fn seen(requests: usize, set: impl FnOnce(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let builder = set(builder().0).on_decision(move |event| {
        let used = event.decision().map_or(String::from("-"), |decision| decision.used().to_string());
        let mode = if event.is_enforced() { "" } else { " (shadow)" };
        let line = format!("{}: {} {}{mode} {used}", event.policy(), event.outcome(), event.reason());
        kept.lock().unwrap().push(line);
    });
    let app = app(&builder.build().unwrap());
    for _ in 0..requests {
        ask(&app, "a").await;
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test]
async fn a_function_sees_each_decision_of_each_limit_once() {
    let service = || Limit::per(Global).name("service");
    let one = seen(3, |layer| layer.limit(client().quota("2/h"))).await;
    assert_eq!(
        one,
        ["client: admitted within_limit 1", "client: admitted near_limit 2", "client: refused over_limit 2"]
    );

    let two = seen(2, |layer| layer.limit(client().quota("1/h")).limit(service().quota("10/h"))).await;
    let admitted = ["client: admitted near_limit 1", "service: admitted within_limit 1"];
    assert_eq!(two, [admitted, ["client: refused over_limit 1", "service: admitted other_limit 1"]].concat());

    let shadow = seen(2, |layer| layer.limit(client().quota("1/h").shadow()).limit(service().quota("10/h"))).await;
    let first = ["client: admitted near_limit (shadow) 1", "service: admitted within_limit 1"];
    assert_eq!(
        shadow,
        [first, ["client: would_refuse over_limit (shadow) 1", "service: admitted within_limit 2"]].concat()
    );
}

#[tokio::test]
async fn a_cap_refuses_with_a_reason_of_its_own() {
    // The bodies of the responses are dropped at once, so no request is in flight when the next one comes.
    let cap = || Limit::per(Global).in_flight(1).name("cap");
    assert_eq!(seen(2, |layer| layer.limit(cap())).await, ["cap: admitted near_limit 1"; 2]);
    let layer = builder().0.limit(cap());
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&reasons);
    let layer = layer.on_decision(move |event| kept.lock().unwrap().push(event.reason().name())).build().unwrap();
    let app = app(&layer);
    let open = || tower::ServiceExt::oneshot(app.clone(), http::Request::new(axum::body::Body::empty()));
    let _in_flight = open().await.unwrap();
    assert_eq!(open().await.unwrap().status(), 429);
    assert_eq!(*reasons.lock().unwrap(), ["near_limit", "in_flight"]);
}

/// The twin of the above: what no limit decides, the function does not see.
#[tokio::test]
async fn a_function_sees_no_request_that_no_limit_decides() {
    assert_eq!(seen(2, |layer| layer.limit(client().quota("1/h")).exempt_paths(["/"])).await, [""; 0]);
    assert_eq!(seen(2, |layer| layer.limit(client().quota("1/h")).deny(|_| true)).await, [""; 0]);
    assert_eq!(seen(2, |layer| layer.limit(client().quota_fn(|_| Quotas::UNLIMITED))).await, [""; 0]);
}

#[tokio::test]
async fn a_request_without_a_key_is_seen_with_what_becomes_of_it() {
    let without = || Limit::per(tower_weir::key::Header::new("x-absent")).quota("1/h").name("absent");
    for (policy, lines) in [
        (OnMissingKey::Reject, ["absent: refused missing_key -"; 2]),
        (OnMissingKey::Allow, ["absent: admitted missing_key -"; 2]),
        (OnMissingKey::Shared, ["absent: admitted near_limit 1", "absent: refused over_limit 1"]),
    ] {
        assert_eq!(seen(2, |layer| layer.limit(without()).on_missing_key(policy)).await, lines);
    }
    let shadow = seen(1, |layer| layer.limit(without().shadow())).await;
    assert_eq!(shadow, ["absent: would_refuse missing_key (shadow) -"]);
}

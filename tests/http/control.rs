//! What a control changes while a layer serves requests.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::Request;
use tower::ServiceExt;
use tower_weir::key::Header;
use tower_weir::{ConfigError, Global, Limit, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::within;

fn client(quota: &str) -> RateLimitLayerBuilder {
    RateLimitLayer::builder().limit(Limit::per(Header::new("x-client")).quota(quota).name("client"))
}

fn app(layer: &RateLimitLayer) -> Router {
    Router::new().fallback(any(async || "hello")).layer(layer.clone())
}

async fn admitted(app: &Router, who: &str, n: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..n {
        let request = Request::get("/").header("x-client", who).body(Body::empty()).unwrap();
        admitted += usize::from(within(app.clone().oneshot(request)).await.unwrap().status() == 200);
    }
    admitted
}

/// On a store that was given, and on a store of the layer's own.
#[tokio::test]
async fn an_update_keeps_every_count() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    for layer in [client("5/h").limiter(rl.local()).build().unwrap(), client("5/h").build().unwrap()] {
        let (app, control) = (app(&layer), layer.control());
        assert_eq!(admitted(&app, "a", 9).await, 5);
        control.update(client("8/h")).unwrap();
        assert_eq!(admitted(&app, "a", 9).await, 3);
        control.update(client("2/min")).unwrap();
        assert_eq!(admitted(&app, "a", 9).await, 0);
        assert_eq!(admitted(&app, "b", 9).await, 2);
        let both = client("20/h").limit(Limit::per(Global).quota("10/h").name("service"));
        control.update(both).unwrap();
        assert_eq!(admitted(&app, "b", 20).await, 10, "a new limit starts empty");
        assert_eq!(admitted(&self::app(&layer), "b", 1).await, 0, "a router that is built later has the same limits");
        control.update(client("1000/h").enabled(false)).unwrap();
        assert_eq!(admitted(&app, "a", 20).await, 20);
        control.update(client("9/h")).unwrap();
        assert_eq!(admitted(&app, "a", 20).await, 1, "while it was off, nothing was counted");
    }
}

#[tokio::test]
async fn a_failed_update_changes_nothing() {
    let layer = client("3/h").build().unwrap();
    let (app, control) = (app(&layer), layer.control());
    for (wrong, what) in [
        (client("often"), "a quota"),
        (client("3/h").limit(Limit::per(Global).quota("1/s").name("client")), "a name"),
        (client("3/2ms"), "a window that is shorter than a bucket"),
        (RateLimitLayer::builder(), "no limit"),
    ] {
        assert!(control.update(wrong).is_err(), "{what}");
    }
    assert_eq!(control.limits().count(), 1);
    assert_eq!(admitted(&app, "a", 5).await, 3);
}

#[tokio::test]
async fn a_control_follows_updates_and_knows_removed_limits() {
    let layer = client("3/h").limit(Limit::per(Global).quota("9/h").name("service")).build().unwrap();
    let (app, control) = (app(&layer), layer.control());
    let (limit, service) = (control.limit("client").unwrap(), control.limit("service").unwrap());
    assert_eq!(admitted(&app, "a", 5).await, 3);
    limit.shadow();
    control.update(client("4/h")).unwrap();
    assert_eq!(limit.mode(), tower_weir::layer::LimitMode::Enforce, "the mode is that of the update");
    assert_eq!(service.mode(), tower_weir::layer::LimitMode::Off);
    assert!(matches!(control.limit("service"), Err(ConfigError::UnknownLimit { .. })));
    assert_eq!(service.global().usage().await.unwrap(), None);
    service.global().reset().await.unwrap();
    assert_eq!(admitted(&app, "a", 5).await, 1);
    limit.key("a").reset().await.unwrap();
    assert_eq!(admitted(&app, "a", 5).await, 4);
}

/// The quota changes all the time while many requests come: at no time is more admitted than the largest quota, and in
/// the end not less than the smallest.
#[test]
fn updates_while_requests_are_decided_admit_no_more_than_the_largest_quota() {
    let layer = client("40/h").build().unwrap();
    let (service, control) = (app(&layer), layer.control());
    let (admitted_units, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    thread::scope(|scope| {
        for _ in 0..3 {
            let (service, admitted_units, is_over) =
                (service.clone(), Arc::clone(&admitted_units), Arc::clone(&is_over));
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    admitted_units.fetch_add(runtime.block_on(admitted(&service, "a", 1)), Ordering::Relaxed);
                }
            });
        }
        for n in 0..2_000 {
            control.update(client(if n % 2 == 0 { "60/h" } else { "40/h" })).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let admitted_units = admitted_units.load(Ordering::Relaxed);
    assert!((40..=60).contains(&admitted_units), "{admitted_units}");
}

/// The states between are dropped, although the first service was never called.
#[tokio::test]
async fn old_states_are_not_kept() {
    let token = Arc::new(());
    let with_token = |quota| {
        let token = Arc::clone(&token);
        client(quota).exempt(move |_| Arc::strong_count(&token) == 0)
    };
    let layer = with_token("3/h").build().unwrap();
    let (app, control) = (app(&layer), layer.control());
    let before = Arc::strong_count(&token);
    for _ in 0..100 {
        control.update(with_token("4/h")).unwrap();
    }
    assert_eq!(admitted(&app, "a", 9).await, 4);
    assert!(Arc::strong_count(&token) <= before + 2, "{} states are kept", Arc::strong_count(&token));
    drop((app, layer, control));
    assert_eq!(Arc::strong_count(&token), 1, "nothing is left when the layer is gone");
}

#[tokio::test]
async fn a_control_looks_at_a_key_and_sets_its_units() {
    let layer = client("5/h").build().unwrap();
    let app = app(&layer);
    let key = layer.control().limit("client").unwrap().key("a");
    assert_eq!(admitted(&app, "a", 2).await, 2);
    let peek = async |cost| key.peek(cost).await.unwrap().unwrap();
    assert_eq!((peek(0).await.used(), peek(3).await.is_allowed(), peek(4).await.is_allowed()), (2, true, false));
    assert!(peek(4).await.retry_after().is_some() && peek(6).await.retry_after().is_none());
    key.set(5).await.unwrap();
    assert_eq!(admitted(&app, "a", 9).await, 0, "blocked until the window has passed");
    key.set(4).await.unwrap();
    assert_eq!(admitted(&app, "a", 9).await, 1);
    key.set(u64::MAX).await.unwrap();
    assert_eq!((admitted(&app, "a", 9).await, admitted(&app, "b", 9).await), (0, 5));
    key.set(0).await.unwrap();
    assert_eq!(admitted(&app, "a", 9).await, 5);
}

/// A full local store returns an error instead of losing the change.
#[tokio::test]
async fn a_full_store_returns_an_error_for_an_unknown_key() {
    let rl = RateLimiter::builder().max_keys(1).build().unwrap();
    let layer = client("5/h").limiter(rl.local()).build().unwrap();
    let app = app(&layer);
    assert_eq!(admitted(&app, "a", 1).await, 1);
    let key = |who: &str| layer.control().limit("client").unwrap().key(who);
    assert!(key("b").set(3).await.is_err());
    key("b").reset().await.unwrap();
    key("a").set(3).await.unwrap();
    assert_eq!(admitted(&app, "a", 9).await, 2);
}

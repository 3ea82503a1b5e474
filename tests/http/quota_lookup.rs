//! Quotas that are looked up, through the layer.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use futures_util::future::join_all;
use http::Request;
use tower::ServiceExt;
use tower_weir::key::{Header, RequestView};
use tower_weir::{ConfigError, Global, Limit, OnStoreError, Quotas, RateLimitLayer, RateLimitLayerBuilder};

use crate::support::http::within;

/// A source of plans that counts how often it is asked.
#[derive(Clone, Default)]
struct Plans(Arc<AtomicUsize>);

impl Plans {
    fn asked(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    async fn find(self, who: String) -> Result<Quotas, io::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        match who.as_str() {
            "free" => Ok(Quotas::try_from("2/h").unwrap()),
            "pro" => Ok(Quotas::try_from(["5/h", "50/d"]).unwrap()),
            "internal" => Ok(Quotas::UNLIMITED),
            "suspended" => Ok(Quotas::BLOCKED),
            _ => Err(io::Error::other("the source is down")),
        }
    }
}

fn limit(plans: &Plans) -> Limit {
    let plans = plans.clone();
    let find = move |req: &RequestView<'_>| {
        let who = req.headers().get("x-client").map(|who| who.to_str().unwrap().to_owned());
        plans.clone().find(who.unwrap_or_default())
    };
    Limit::per(Header::new("x-client")).quota_lookup(find).name("plan")
}

fn app(limits: impl IntoIterator<Item = Limit>, on_store_error: OnStoreError) -> Router {
    let builder = RateLimitLayer::builder().on_store_error(on_store_error);
    let layer = limits.into_iter().fold(builder, RateLimitLayerBuilder::limit).build().unwrap();
    Router::new().fallback(any(async || "hello")).layer(layer)
}

async fn statuses(app: &Router, who: &str, n: usize) -> Vec<u16> {
    let asked = (0..n).map(|_| {
        let request = Request::get("/").header("x-client", who).body(Body::empty()).unwrap();
        let app = app.clone();
        async move { within(app.oneshot(request)).await.unwrap().status().as_u16() }
    });
    let mut statuses = join_all(asked).await;
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn each_client_has_the_quotas_of_its_plan_and_is_looked_up_once() {
    let plans = Plans::default();
    let app = app([limit(&plans)], OnStoreError::default());
    for (who, want) in [
        ("free", vec![200, 200, 429, 429, 429, 429]),
        ("pro", vec![200, 200, 200, 200, 200, 429]),
        ("internal", vec![200; 6]),
        ("suspended", vec![429; 6]),
    ] {
        let before = plans.asked();
        assert_eq!(statuses(&app, who, 6).await, want, "{who}");
        assert_eq!(plans.asked(), before + 1, "{who}: concurrent requests share a lookup, and its result is kept");
    }
}

#[tokio::test]
async fn without_a_plan_the_policy_for_a_failed_store_decides() {
    for (policy, want) in [(OnStoreError::Reject, 503), (OnStoreError::LocalShare, 503), (OnStoreError::Allow, 200)] {
        let plans = Plans::default();
        let app = app([limit(&plans)], policy);
        assert_eq!(statuses(&app, "unknown", 4).await, [want; 4]);
        assert_eq!(plans.asked(), 1, "a source that is down is not asked by every request");
    }
}

/// The other limits are not charged for a request that has no plan.
#[tokio::test]
async fn a_failed_lookup_charges_no_other_limit() {
    let plans = Plans::default();
    let service = Limit::per(Global).quota("2/h").name("service");
    let app = app([limit(&plans), service], OnStoreError::Reject);
    assert_eq!(statuses(&app, "unknown", 9).await, [503; 9]);
    assert_eq!(statuses(&app, "pro", 9).await, [200, 200, 429, 429, 429, 429, 429, 429, 429]);
}

/// The key is looked up first, and the quotas by that key.
#[tokio::test]
async fn a_key_and_its_quotas_are_both_looked_up() {
    let plans = Plans::default();
    let account = |req: &RequestView<'_>| {
        let who = req.headers()["x-client"].to_str().unwrap().to_owned();
        async move { Ok(who.len() as u64) }
    };
    let source = plans.clone();
    let limit = Limit::per(Global).key_lookup(account).quota_lookup(move |_| source.clone().find("free".to_owned()));
    let app = app([limit], OnStoreError::default());
    assert_eq!(statuses(&app, "ab", 3).await, [200, 200, 429]);
    assert_eq!(statuses(&app, "cd", 1).await, [429], "the same account");
    assert_eq!(statuses(&app, "abc", 2).await, [200, 200]);
    assert_eq!(plans.asked(), 2);
}

#[test]
fn a_cache_without_a_lookup_or_without_keys_is_an_error() {
    let second = Duration::from_secs(1);
    for wrong in [Limit::per(Global).quota("1/s").cache(1, second), limit(&Plans::default()).cache(0, second)] {
        assert_eq!(RateLimitLayer::builder().limit(wrong).build().unwrap_err(), ConfigError::InvalidQuotaCache);
    }
    let both = limit(&Plans::default()).quota("1/s");
    let error = RateLimitLayer::builder().limit(both).build().unwrap_err();
    assert_eq!(error, ConfigError::QuotasConflict("plan".into()));
}

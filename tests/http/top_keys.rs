//! The busiest keys of a limit, as its control reports them.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tower::ServiceExt;
use tower_weir::key::{Extension, Header};
use tower_weir::layer::{LimitControl, OnMissingKey, TopKey};
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store};
use tower_weir::{
    Ban, ClientIp, ConfigError, Global, Limit, OnStoreError, Quotas, RateLimitConfig, RateLimitLayer, StoreError,
    StoreErrorKind, TopKeys,
};

use crate::limits::{app, ask, builder, client};
use crate::support::http::within;

fn row(key: &&TopKey) -> (String, u64, u64) {
    (key.name().map(ToString::to_string).unwrap_or_default(), key.requests().at_most, key.refusals().at_most)
}

/// The names of a limit's keys by requests, each with its requests and refusals.
fn rows(limit: &LimitControl) -> Vec<(String, u64, u64)> {
    limit.top_keys().unwrap().by_requests().iter().map(row).collect()
}

fn of(name: &str, requests: u64, refusals: u64) -> (String, u64, u64) {
    (name.to_owned(), requests, refusals)
}

/// Requests of `a`, three times, and of `b`, once.
async fn traffic(layer: &RateLimitLayer) {
    let app = app(layer);
    for who in ["a", "a", "b", "a"] {
        ask(&app, who).await;
    }
}

#[tokio::test]
async fn each_kind_of_limit_counts_its_requests_and_its_refusals() {
    let named = || client().top_keys(TopKeys::names(10));
    for (limit, a, what) in [
        (named().quota("1/h"), 2, "absolute"),
        (named().quota("1/h").shadow(), 2, "would be refused in shadow"),
        (named().quota("1/h").suppressed(1.0), 2, "suppressed"),
        (named().quota("1/h").ban(Ban::after(1)), 2, "banned after its first refusal"),
        (named().quota_fn(|_| Quotas::BLOCKED), 3, "blocked"),
        (named().routes([("/", "1/h")]), 2, "a route"),
        (named().quota("9/h"), 0, "within its limit"),
    ] {
        let layer = builder().0.limit(limit).build().unwrap();
        traffic(&layer).await;
        let b = u64::from(what == "blocked");
        let limit = layer.control().limit("client").unwrap();
        assert_eq!(rows(&limit), [of("a", 3, a), of("b", 1, b)], "{what}");
        let report = limit.top_keys().unwrap();
        assert_eq!((report.requests(), report.refusals()), (4, a + b), "{what}");
        let refused: Vec<_> = report.by_refusals().iter().map(|key| row(key).0).collect();
        assert_eq!(refused.len(), usize::from(a > 0) + usize::from(b > 0), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn a_cap_counts_what_it_refuses() {
    let layer = builder().0.limit(client().in_flight(1).top_keys("10 names")).build().unwrap();
    let app = app(&layer);
    let in_flight = ask(&app, "a").await;
    assert_eq!(
        (ask(&app, "a").await.status(), ask(&app, "b").await.status()),
        (429.try_into().unwrap(), 200.try_into().unwrap())
    );
    drop(in_flight);
    assert_eq!(rows(&layer.control().limit("client").unwrap()), [of("a", 2, 1), of("b", 1, 0)]);
}

/// A request that another limit refuses is a request of this one, and no refusal.
#[tokio::test]
async fn each_limit_of_a_layer_counts_its_own_refusals() {
    let service = Limit::per(Global).quota("9/h").name("service").top_keys("10 names");
    let untracked = Limit::per(Header::new("x-client")).quota("9/h").name("untracked");
    let layer = builder().0.limit(client().quota("1/h").top_keys("10 names")).limit(service).limit(untracked);
    let layer = layer.build().unwrap();
    traffic(&layer).await;
    let control = layer.control();
    assert_eq!(rows(&control.limit("client").unwrap()), [of("a", 3, 2), of("b", 1, 0)]);
    assert_eq!(rows(&control.limit("service").unwrap()), [of("(global)", 4, 0)]);
    assert!(control.limit("untracked").unwrap().top_keys().is_none());
}

/// What no limit decides, and requests without a key.
#[tokio::test]
async fn a_request_without_a_decision_on_its_key_is_not_tracked() {
    let tracked = || client().quota("1/h").top_keys("10 names");
    let absent = || Limit::per(Header::new("x-absent")).quota("1/h").name("client").top_keys("10 names");
    for (layer, what) in [
        (builder().0.limit(tracked()).exempt_paths(["/"]), "exempt"),
        (builder().0.limit(tracked()).deny(|_| true), "denied"),
        (builder().0.limit(absent()), "no key"),
        (builder().0.limit(absent()).on_missing_key(OnMissingKey::Allow), "no key, which is allowed"),
        (builder().0.limit(client().quota_fn(|_| Quotas::UNLIMITED).top_keys("9 names")), "unlimited"),
        (builder().0.limit(tracked().mode(tower_weir::layer::LimitMode::Off)), "off"),
    ] {
        let layer = layer.build().unwrap();
        traffic(&layer).await;
        assert_eq!(rows(&layer.control().limit("client").unwrap()), [], "{what}");
    }
    // The budget of all requests without a key is a key.
    let shared = builder().0.limit(absent()).on_missing_key(OnMissingKey::Shared).build().unwrap();
    traffic(&shared).await;
    assert_eq!(rows(&shared.control().limit("client").unwrap()), [of("(missing)", 4, 3)]);
}

#[tokio::test]
async fn a_failure_of_the_store_is_a_request_and_no_refusal_of_the_key() {
    #[derive(Debug)]
    struct Broken;
    impl Store for Broken {
        fn open(&self, _: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
            Ok(Arc::new(Self))
        }
    }
    impl Budget for Broken {
        fn decide(&self, _: BudgetRequest<'_>) -> BudgetResponse {
            BudgetResponse::Ready(Err(StoreError::new(StoreErrorKind::Unavailable, "it is broken")))
        }
        fn refund(&self, _: &[u8], _: u64, _: &tower_weir::Decision) {}
    }
    for behavior in [OnStoreError::Reject, OnStoreError::Allow] {
        let layer =
            RateLimitLayer::builder().limit(client().quota("1/h").top_keys("10 names")).limiter(Arc::new(Broken));
        let layer = layer.on_store_error(behavior).build().unwrap();
        traffic(&layer).await;
        assert_eq!(rows(&layer.control().limit("client").unwrap()), [of("a", 3, 0), of("b", 1, 0)]);
    }
}

#[tokio::test]
async fn a_name_resets_exactly_its_key() {
    let pair = Limit::per((Header::new("x-client"), Extension::<IpAddr>::new())).quota("1/h").name("client");
    let layer = builder().0.limit(pair.top_keys("10 names")).build().unwrap();
    let app = app(&layer);
    let status = async |who: &str, last: u8| {
        let request = Request::get("/").header("x-client", who).extension(IpAddr::from([203, 0, 113, last]));
        within(app.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap().status().as_u16()
    };
    assert_eq!([status("a", 1).await, status("a", 1).await, status("a", 2).await], [200, 429, 200]);
    let limit = layer.control().limit("client").unwrap();
    let report = limit.top_keys().unwrap();
    let busiest = report.by_refusals()[0];
    assert_eq!(busiest.name().unwrap().to_string(), "a + 203.0.113.1");
    limit.key(busiest.name().unwrap()).reset().await.unwrap();
    assert_eq!([status("a", 1).await, status("a", 2).await], [200, 429], "the other key is not concerned");
    assert!(!format!("{report:?} {layer:?}").contains("203.0.113.1"), "names stay out of debug forms");
}

#[tokio::test]
async fn a_limit_with_the_same_name_and_setting_keeps_its_counts() {
    let tracked = |keys: &str, quota: &str| RateLimitLayer::builder().limit(client().quota(quota).top_keys(keys));
    let layer = tracked("10 names", "9/h").build().unwrap();
    let (control, limit) = (layer.control(), layer.control().limit("client").unwrap());
    traffic(&layer).await;
    control.update(tracked("10 names", "1/h")).unwrap();
    traffic(&layer).await;
    assert_eq!(rows(&limit), [of("a", 6, 3), of("b", 2, 1)], "a new quota");
    control.update(tracked("20 names", "1/h")).unwrap();
    assert_eq!(rows(&limit), [], "a new setting");
    traffic(&layer).await;
    control.update(RateLimitLayer::builder().limit(client().quota("1/h"))).unwrap();
    assert!(limit.top_keys().is_none());

    let config = |quota: &str| {
        let table = format!("client  header x-client  {quota}  absolute  enforce\n  top-keys  10 names every 1h");
        table.parse::<RateLimitConfig>().unwrap()
    };
    let layer = RateLimitLayer::from_config(config("9/h")).unwrap();
    traffic(&layer).await;
    layer.control().reload(config("1/h")).unwrap();
    assert_eq!(rows(&layer.control().limit("client").unwrap()), [of("a", 3, 0), of("b", 1, 0)], "a reload");
}

#[test]
fn an_invalid_setting_is_an_error_of_build_also_beside_other_limits() {
    let limit = || client().quota("1/h");
    for layer in [
        builder().0.limit(limit().top_keys(TopKeys::ids(0))),
        builder().0.limit(limit().top_keys("1001 ids")),
        builder().0.limit(client().in_flight(1).top_keys(TopKeys::names(1_001))),
    ] {
        let error = layer.build().unwrap_err();
        assert!(matches!(error, ConfigError::InvalidTopKeys(_)), "{error}");
        assert!(error.to_string().contains("write 1 to 1000"), "{error}");
    }
    // The setter of the builder belongs to a limit that has no quota.
    assert_eq!(builder().0.limit(limit()).top_keys("9 ids").build().unwrap_err(), ConfigError::NoQuota);
    assert!(
        builder()
            .0
            .quotas(["1/h"])
            .top_keys("9 ids")
            .build()
            .unwrap()
            .control()
            .limit("default")
            .unwrap()
            .top_keys()
            .is_some()
    );
}

/// Also for a whole address of a client, whose key is its network.
#[tokio::test]
async fn a_control_finds_the_key_of_a_whole_address() {
    let layer = builder().0.limit(Limit::per(ClientIp::peer()).quota("1/h").name("client")).build().unwrap();
    let app = app(&layer);
    let peer: SocketAddr = "[2001:db8:1:2:3:4:5:6]:4000".parse().unwrap();
    let ask = async || {
        let request = Request::get("/").extension(peer).body(Body::empty()).unwrap();
        within(app.clone().oneshot(request)).await.unwrap().status().as_u16()
    };
    assert_eq!([ask().await, ask().await], [200, 429]);
    let limit = layer.control().limit("client").unwrap();
    let other: IpAddr = "2001:db8:1:2::7".parse().unwrap();
    assert_eq!(limit.key(&other).usage().await.unwrap().unwrap().used(), 1);
    limit.key(&peer.ip()).reset().await.unwrap();
    assert_eq!(ask().await, 200);
}

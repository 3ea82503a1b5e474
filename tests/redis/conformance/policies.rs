//! What layers open in a store: budgets by name, several quotas, refunds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::RateLimitComparator::Always;
use tower_weir::key::Header;
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{
    ConfigError, Decision, HardLimitFactor, HistoryPreservation, OnStoreError, Quota, RateLimit, RateLimitLayer,
    RateLimiter, StoreError, StoreErrorKind,
};

use super::stores::{Kind, PATIENCE, Rig};

pub(crate) fn open(rig: &Rig, name: &str, quotas: &[&str], kind: Kind) -> Arc<dyn Budget> {
    let [store, _] = rig.stores();
    open_in(&*store, name, quotas, kind)
}

fn open_in(store: &dyn Store, name: &str, quotas: &[&str], kind: Kind) -> Arc<dyn Budget> {
    let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    let policy = Policy::new(name, quotas, strategy(kind)).with_on_store_error(OnStoreError::Reject);
    store.open(&policy).unwrap()
}

fn strategy(kind: Kind) -> Strategy {
    match kind {
        Kind::Absolute => Strategy::Absolute,
        Kind::Suppressed => Strategy::Suppressed(HardLimitFactor::default()),
    }
}

pub(crate) async fn decide(budget: &dyn Budget, key: &[u8], cost: u64) -> Decision {
    match budget.decide(BudgetRequest::new(key, cost)) {
        BudgetResponse::Ready(result) => result.unwrap(),
        BudgetResponse::Pending(pending) => pending.await.unwrap(),
    }
}

/// The status with which a layer answers a client's request.
async fn status(layer: &RateLimitLayer, client: &str) -> u16 {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let request = Request::get("/").header("x-client", client).body(()).unwrap();
    layer.layer(inner).oneshot(request).await.unwrap().status().as_u16()
}

pub(crate) async fn layers_of_one_name_and_limiter_share_a_budget(rig: &Rig, kind: Kind) {
    let layer = |store: &Arc<dyn Store>, name: &str| {
        let builder = RateLimitLayer::builder()
            .name(format!("{name} {kind:?}"))
            .quota("4/min".parse().unwrap())
            .key(Header::new("x-client"))
            .on_store_error(OnStoreError::Reject)
            .limiter(Arc::clone(store));
        match kind {
            Kind::Absolute => builder.build().unwrap(),
            Kind::Suppressed => builder.suppressed(1.0).build().unwrap(),
        }
    };
    let [here, there] = rig.stores();
    let [one, other, remote] = [layer(&here, "api"), layer(&here, "api"), layer(&there, "api")];
    for layer in [&one, &other, &remote, &one.clone()] {
        assert_eq!(status(layer, "ann").await, 200);
    }
    for layer in [&one, &other, &remote] {
        assert_eq!(status(layer, "ann").await, 429);
        assert_eq!(status(layer, "bob").await, 200, "another key");
    }
    assert_eq!(status(&layer(&here, "login"), "ann").await, 200, "another name");
}

pub(crate) async fn several_quotas_are_charged_together_or_not_at_all(rig: &Rig, kind: Kind) {
    for (name, quotas) in [("narrow first", ["3/min", "5/h"]), ("wide first", ["5/h", "3/min"])] {
        let name = format!("{name} {kind:?}");
        let (minute, hour) = if quotas[0] == "3/min" { (0, 1) } else { (1, 0) };
        let both = open(rig, &name, &quotas, kind);
        for used in 1..=3 {
            let decision = decide(&*both, b"k", 1).await;
            assert_eq!((decision.limit_index(), decision.limit(), decision.used()), (minute, 3, used), "{decision:?}");
        }
        let refusal = decide(&*both, b"k", 1).await;
        assert!(!refusal.is_allowed() && refusal.is_exceeded(minute) && !refusal.is_exceeded(hour), "{refusal:?}");
        // By the hour's quota alone the refusal was not charged either.
        let alone = open(rig, &name, &["5/h"], kind);
        assert_eq!(decide(&*alone, b"k", 0).await.used(), 3);
        if kind == Kind::Absolute {
            assert_eq!(decide(&*alone, b"k", 2).await.used(), 5);
            let refusal = decide(&*both, b"k", 1).await;
            assert!(
                refusal.is_exceeded(minute) && refusal.is_exceeded(hour) && refusal.limit_index() == hour,
                "{refusal:?}"
            );
            assert!(refusal.retry_after().unwrap() > Duration::from_secs(3_000), "the wait is the longest of all");
        }
        let heavy = decide(&*both, b"other", 4).await;
        assert!(!heavy.is_allowed() && heavy.retry_after().is_none(), "4 never fit 3 a minute: {heavy:?}");
        assert!(decide(&*both, b"other", 3).await.is_allowed());
    }
}

pub(crate) async fn quotas_of_one_name_look_at_one_history(rig: &Rig, kind: Kind) {
    let name = format!("tiers {kind:?}");
    let (free, paid) = (open(rig, &name, &["2/min"], kind), open(rig, &name, &["6/min"], kind));
    assert!(decide(&*free, b"k", 2).await.is_allowed());
    assert_eq!(decide(&*paid, b"k", 4).await.used(), 6);
    assert!(!decide(&*free, b"k", 1).await.is_allowed());
    let refusal = decide(&*paid, b"k", 1).await;
    assert_eq!((refusal.is_allowed(), refusal.limit(), refusal.used()), (false, 6, 6));
}

pub(crate) async fn a_refund_takes_back_what_was_charged_and_no_more(rig: &Rig, kind: Kind) {
    let budget = open(rig, &format!("refunds {kind:?}"), &["10/min"], kind);
    let kept = decide(&*budget, b"k", 3).await;
    assert!(kept.is_allowed());
    // Of another bucket, so that a refund of too much would have to touch the other.
    tokio::time::sleep(Duration::from_millis(25)).await;
    let heavy = decide(&*budget, b"k", 7).await;
    assert_eq!(heavy.used(), 10);
    let refused = decide(&*budget, b"k", 1).await;
    assert!(!refused.is_allowed());
    budget.refund(b"k", 1, &refused);
    budget.refund(b"k", 0, &heavy);
    budget.refund(b"another", 7, &heavy);
    budget.refund(b"k", 2, &heavy);
    settles(&*budget, 8).await;
    if kind == Kind::Absolute {
        // The refusal that was remembered has ended, and a tenth unit fits and no eleventh.
        assert!(decide(&*budget, b"k", 2).await.is_allowed());
        assert!(!decide(&*budget, b"k", 1).await.is_allowed());
    } else {
        budget.refund(b"k", u64::MAX, &kept);
        settles(&*budget, 5).await;
        budget.refund(b"k", u64::MAX, &kept);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(decide(&*budget, b"k", 0).await.used(), 5, "the second time there is nothing to take back");
    }
}

/// A store that has to do I/O refunds in its own time.
async fn settles(budget: &dyn Budget, used: u64) {
    let began = Instant::now();
    loop {
        let seen = decide(budget, b"k", 0).await.used();
        if seen == used {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{seen} used, not {used}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn without_redis() {
    let rl = RateLimiter::builder().build().unwrap();
    let rate = RateLimit::try_from(1.0).unwrap();
    let (absolute, suppressed) = (rl.redis().absolute(), rl.redis().suppressed());
    let oldest = HistoryPreservation::PreserveOldest;
    let errors: [StoreError; 15] = [
        absolute.inc("k", &rate, 1).await.unwrap_err(),
        absolute.decide("k", &rate, 1).await.unwrap_err(),
        absolute.is_allowed("k", &rate).await.unwrap_err(),
        absolute.get("k").await.unwrap_err(),
        absolute.set_if("k", &rate, Always, 1).await.unwrap_err(),
        absolute.set_if_preserve_history("k", &rate, Always, 1, oldest).await.unwrap_err(),
        absolute.delete("k").await.unwrap_err(),
        absolute.clear().await.unwrap_err(),
        suppressed.inc("k", &rate, 1).await.unwrap_err(),
        suppressed.is_allowed("k", &rate).await.unwrap_err(),
        suppressed.get("k").await.unwrap_err(),
        suppressed.set_if("k", &rate, Always, 1).await.unwrap_err(),
        suppressed.delete("k").await.unwrap_err(),
        suppressed.clear().await.unwrap_err(),
        suppressed.get_suppression_factor("k", &rate).await.unwrap_err(),
    ];
    let at_once = rl.hybrid().absolute().try_inc("k", &rate, 1).unwrap_err();
    for error in errors.into_iter().chain([at_once]) {
        assert_eq!(error.kind(), StoreErrorKind::NotConfigured);
        assert!(error.to_string().contains("redis_url"), "it says what to write: {error}");
    }
    let layer = RateLimitLayer::builder().quota("1/s".parse().unwrap()).limiter(rl.redis()).build();
    assert!(matches!(layer, Err(ConfigError::NoRedis)), "{layer:?}");
    assert!(layer.unwrap_err().to_string().contains("redis_url"));
    assert!(rl.local().absolute().inc("k", &rate, 1).is_allowed());
}

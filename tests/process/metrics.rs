//! What the feature `metrics` reports, as the usual exporter receives it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_weir::key::Header;
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store};
use tower_weir::{
    ConfigError, Global, Limit, ManualClock, OnStoreError, RateLimitLayer, RateLimitLayerBuilder, RateLimiter,
    StoreError, StoreErrorKind,
};

use crate::alloc::allocations;
use crate::alloc::layer::{Trivial, send};
use crate::support::http::block_on;

const CALLS: usize = 1_000;

/// A recorder, and the text that a scrape of it returns.
struct Scraped {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Scraped {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
        Self { handle: recorder.handle(), recorder }
    }

    /// Runs with the recorder.
    fn record<T>(&self, run: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, run)
    }

    /// The series and their values.
    fn series(&self) -> Vec<(String, f64)> {
        let text = self.handle.render();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.into(), value.parse().unwrap()))
            .collect()
    }

    /// The sum of the series with a name and with these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has_labels =
            |series: &str| labels.iter().all(|(key, value)| series.contains(&format!("{key}=\"{value}\"")));
        let is_named = |series: &str| series.split('{').next() == Some(name);
        self.series().iter().filter(|(series, _)| is_named(series) && has_labels(series)).map(|(_, value)| value).sum()
    }

    /// The decisions with these labels: policy, decision, reason and mode.
    fn decisions(&self, [policy, decision, reason, mode]: [&str; 4]) -> f64 {
        let labels = [
            ("rate_limit_policy", policy),
            ("rate_limit_decision", decision),
            ("rate_limit_reason", reason),
            ("rate_limit_mode", mode),
        ];
        let given: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.sum("rate_limit_decisions_total", &given)
    }
}

fn request(client: &str) -> Request<()> {
    Request::get("/").header("x-client", client).body(()).unwrap()
}

fn per_client(quota: &str) -> Limit {
    Limit::per(Header::new("x-client")).quota(quota).name("client")
}

fn local() -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    clock.set_ms(1_000_000);
    (RateLimiter::builder().clock(clock.clone()).build().unwrap(), clock)
}

/// The statuses of some requests of one client to a layer on a local store of its own.
fn statuses<const N: usize>(set: impl FnOnce(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> [u16; N] {
    let (limiter, _) = local();
    let mut service = set(RateLimitLayer::builder().limiter(limiter.local())).build().unwrap().layer(Trivial);
    std::array::from_fn(|_| send(&mut service, request("a client")))
}

#[test]
fn each_decision_has_its_outcome_reason_and_mode() {
    let cases: [(Case, &[Row]); 11] = [
        (
            |layer| layer.limit(per_client("5/h")),
            &[
                (["client", "admitted", "within_limit", "enforce"], 3.0),
                (["client", "admitted", "near_limit", "enforce"], 2.0),
                (["client", "refused", "over_limit", "enforce"], 5.0),
            ],
        ),
        (
            |layer| layer.limit(per_client("5/h").shadow()),
            &[
                (["client", "admitted", "within_limit", "shadow"], 3.0),
                (["client", "admitted", "near_limit", "shadow"], 2.0),
                (["client", "would_refuse", "over_limit", "shadow"], 5.0),
                (["client", "refused", "", ""], 0.0),
            ],
        ),
        (
            |layer| layer.limit(per_client("100/h")).limit(Limit::per(Global).quota("5/h").name("service")),
            &[
                (["client", "admitted", "within_limit", "enforce"], 5.0),
                (["client", "admitted", "other_limit", "enforce"], 5.0),
                (["service", "refused", "over_limit", "enforce"], 5.0),
            ],
        ),
        (
            |layer| layer.limit(per_client("100/h")).cost(|_| 101),
            &[(["client", "refused", "never_fits", "enforce"], 10.0)],
        ),
        (
            |layer| layer.limit(per_client("1/h").ban("2 in 1h for 1h")),
            &[
                (["client", "admitted", "near_limit", "enforce"], 1.0),
                (["client", "refused", "over_limit", "enforce"], 1.0),
                (["client", "refused", "banned", "enforce"], 8.0),
            ],
        ),
        (
            |layer| layer.limit(Limit::per(Header::new("x-other")).quota("100/h").name("client")),
            &[(["client", "refused", "missing_key", "enforce"], 10.0)],
        ),
        (
            |layer| layer.limit(Limit::per(Header::new("x-other")).quota("100/h").name("client").shadow()),
            &[(["client", "would_refuse", "missing_key", "shadow"], 10.0)],
        ),
        (
            |layer| layer.limit(per_client("100/h")).exempt_paths(["/"]),
            &[(["", "admitted", "exempt", "enforce"], 10.0), (["client", "", "", ""], 0.0)],
        ),
        (
            |layer| layer.limit(per_client("100/h")).deny(|_| true),
            &[(["", "refused", "denied", "enforce"], 10.0), (["client", "", "", ""], 0.0)],
        ),
        (
            |layer| layer.limit(per_client("100/h")).limiter(Failing),
            &[(["client", "refused", "store_error", "enforce"], 10.0)],
        ),
        (
            |layer| layer.limit(per_client("100/h")).limiter(Failing).on_store_error(OnStoreError::Allow),
            &[(["client", "admitted", "store_error", "enforce"], 10.0)],
        ),
    ];
    // A handle makes a layer take the path for several limits, which must report the same.
    for handle in [false, true] {
        for (at, (set, rows)) in cases.iter().enumerate() {
            let scraped = Scraped::new();
            scraped.record(|| statuses::<10>(|layer| set(layer).handle(handle)));
            for (labels, count) in *rows {
                assert_eq!(scraped.decisions(*labels), *count, "case {at}: {labels:?} in {:#?}", scraped.series());
            }
        }
    }
}

type Case = fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder;
type Row = ([&'static str; 4], f64);

/// A store that cannot decide.
#[derive(Debug)]
struct Failing;

impl Store for Failing {
    fn open(&self, _: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        Ok(Arc::new(Failing))
    }
}

impl Budget for Failing {
    fn decide(&self, _: BudgetRequest<'_>) -> BudgetResponse {
        BudgetResponse::Ready(Err(StoreError::new(StoreErrorKind::Unavailable, "unwell")))
    }

    fn refund(&self, _: &[u8], _: u64, _: &tower_weir::Decision) {}
}

#[test]
fn the_suppressed_strategy_reports_what_it_sheds_and_the_factor() {
    let scraped = Scraped::new();
    scraped.record(|| {
        statuses::<CALLS>(|layer| layer.limit(per_client("100/h").suppressed(2.0)));
    });
    let shed = scraped.decisions(["client", "refused", "shed", "enforce"]);
    let in_band = scraped.decisions(["client", "admitted", "in_band", "enforce"]);
    let below = scraped.decisions(["client", "admitted", "within_limit", ""])
        + scraped.decisions(["client", "admitted", "near_limit", ""]);
    assert!(shed > 0.0 && in_band > 0.0 && below > 0.0, "{:#?}", scraped.series());
    assert!(below + in_band <= 200.0 && below + in_band + shed == CALLS as f64);
    let factors = scraped.sum("rate_limit_suppression_factor_count", &[("rate_limit_policy", "client")]);
    assert_eq!(factors, shed + in_band);
    let mean = scraped.sum("rate_limit_suppression_factor_sum", &[]) / factors;
    assert!(mean > 0.0 && mean <= 1.0, "{mean}");
}

/// A counter that appears with its first refusal would hide that refusal from `increase()`.
#[test]
fn the_first_decision_shows_refusals_at_zero() {
    let scraped = Scraped::new();
    scraped.record(|| statuses::<1>(|layer| layer.limit(per_client("100/h"))));
    let refused = |(series, value): &(String, f64)| series.contains("\"refused\"") && *value == 0.0;
    assert!(scraped.series().iter().any(refused), "{:#?}", scraped.series());
}

#[test]
fn a_flood_of_keys_adds_no_series_and_no_label_shows_a_key() {
    let scraped = Scraped::new();
    let (limiter, clock) = (RateLimiter::builder().max_keys(5_000), ManualClock::new());
    clock.set_ms(1_000_000);
    let limiter = limiter.clock(clock).build().unwrap();
    let layer = RateLimitLayer::builder()
        .limit(per_client("1/h"))
        .limit(Limit::per(Global).quota("1000000/h").shadow().name("service"));
    let mut service = layer.limiter(limiter.local()).build().unwrap().layer(Trivial);
    let mut flood = |keys: std::ops::Range<u32>| {
        // Each client is admitted and refused, until the table is full and some share a budget.
        scraped.record(|| {
            for key in keys {
                send(&mut service, request(&format!("secret-{key}")));
                send(&mut service, request(&format!("secret-{key}")));
            }
        });
        scraped.series().into_iter().map(|(series, _)| series).collect::<BTreeSet<_>>()
    };
    let few = flood(0..10);
    let many = flood(10..10_000);
    let added: Vec<_> = many.difference(&few).collect();
    assert_eq!(added.len(), 2, "only those of the overflow: {added:#?}");
    assert!(added.iter().all(|series| series.starts_with("rate_limit_overflow_")), "{added:#?}");
    assert!(!scraped.handle.render().contains("secret"));
    assert_eq!(
        scraped.sum("rate_limit_keys", &[("rate_limit_policy", "client"), ("rate_limit_store", "local")]),
        5_000.0
    );
    assert_eq!(scraped.sum("rate_limit_overflow_active", &[("rate_limit_policy", "client")]), 1.0);
    assert!(scraped.sum("rate_limit_overflow_decisions_total", &[]) >= 5_000.0);
}

#[test]
fn the_number_of_keys_falls_as_they_are_reclaimed_and_when_the_store_is_dropped() {
    let scraped = Scraped::new();
    let clock = ManualClock::new();
    clock.set_ms(1_000_000);
    let limiter = RateLimiter::builder().max_keys(100).clock(clock.clone()).build().unwrap();
    // Its thread has no recorder.
    limiter.stop_cleanup_loop();
    let layer = RateLimitLayer::builder().limit(per_client("1/s")).limiter(limiter.local()).build().unwrap();
    let mut service = layer.layer(Trivial);
    let mut admit = |keys: std::ops::Range<u32>| {
        scraped.record(|| keys.for_each(|key| assert_eq!(send(&mut service, request(&format!("{key}"))), 200)));
    };
    let keys = || scraped.sum("rate_limit_keys", &[("rate_limit_policy", "client")]);
    admit(0..100);
    assert_eq!((keys(), limiter.local().keys()), (100.0, 100));
    clock.advance(Duration::from_secs(60));
    // A full table looks for idle keys before it shares budgets.
    admit(1_000..1_010);
    assert_eq!(keys(), limiter.local().keys() as f64);
    let reclaimed = scraped.sum("rate_limit_keys_reclaimed_total", &[("rate_limit_policy", "client")]);
    let overflow = scraped.sum("rate_limit_overflow_decisions_total", &[("rate_limit_policy", "client")]);
    assert_eq!(reclaimed, 110.0 - overflow - keys());
    assert!(reclaimed > 0.0);
    drop((service, layer, limiter));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    // The cleanup loop may hold the store for a moment.
    while keys() != 0.0 {
        assert!(std::time::Instant::now() < deadline, "{} keys", keys());
        std::thread::yield_now();
    }
}

#[test]
fn a_recorder_that_is_installed_after_the_layer_was_built_still_counts() {
    let (scraped, (limiter, _)) = (Scraped::new(), local());
    let layer = RateLimitLayer::builder().limit(per_client("5/h")).limiter(limiter.local()).build().unwrap();
    let mut service = layer.layer(Trivial);
    scraped.record(|| {
        for _ in 0..10 {
            send(&mut service, request("a client"));
        }
    });
    assert_eq!(scraped.decisions(["client", "refused", "over_limit", "enforce"]), 5.0);
}

/// After the first of its kind, which registers the handle.
#[test]
fn a_decision_with_metrics_allocates_nothing() {
    let (scraped, (limiter, _)) = (Scraped::new(), local());
    let global = || Limit::per(Global).quota("1000000/h").name("service");
    let new = || RateLimitLayer::builder().limiter(limiter.local());
    for builder in [new().limit(per_client("1000000/h")), new().limit(per_client("1/h").shadow()).limit(global())] {
        let about = format!("{builder:?}");
        let mut service = builder.build().unwrap().layer(Trivial);
        let mut run = |calls: usize| {
            let requests: Vec<_> = (0..calls).map(|_| request("a client")).collect();
            let send_all = || requests.into_iter().for_each(|request| assert_eq!(send(&mut service, request), 200));
            scraped.record(|| allocations(send_all))
        };
        assert!(run(2) > 0, "the handles were never registered, so this shows nothing");
        assert_eq!(run(CALLS), 0, "{about}");
    }
    assert!(scraped.decisions(["client", "admitted", "within_limit", "enforce"]) >= CALLS as f64);
    assert!(scraped.decisions(["client", "would_refuse", "over_limit", "shadow"]) >= CALLS as f64);
}

/// A refusal allocates its response, with metrics as without.
#[test]
fn a_refusal_with_metrics_allocates_no_more_than_without() {
    let refusals = |scraped: Option<&Scraped>| {
        let (limiter, _) = local();
        let layer = RateLimitLayer::builder().limit(per_client("1/h")).limiter(limiter.local()).build().unwrap();
        let mut service = layer.layer(Trivial);
        let mut run = |calls: usize| {
            let requests: Vec<_> = (0..calls).map(|_| request("a client")).collect();
            let send_all = || requests.into_iter().map(|request| u32::from(send(&mut service, request))).sum::<u32>();
            allocations(|| assert!(send_all() >= 429 * (calls as u32 - 1)))
        };
        let mut both = || {
            run(2);
            run(CALLS)
        };
        match scraped {
            Some(scraped) => scraped.record(both),
            None => both(),
        }
    };
    let scraped = Scraped::new();
    let (without, with) = (refusals(None), refusals(Some(&scraped)));
    assert_eq!(with, without);
    assert_eq!(scraped.decisions(["client", "refused", "over_limit", "enforce"]), CALLS as f64 + 1.0);
}

#[test]
fn requests_in_flight_are_gauged_until_their_response_ends() {
    let (scraped, (limiter, _)) = (Scraped::new(), local());
    let cap = Limit::per(Header::new("x-client")).in_flight(2).name("open");
    let layer = RateLimitLayer::builder().limit(cap).limiter(limiter.local()).build().unwrap();
    let service = layer.layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(full("hello"))) }));
    let ask = || scraped.record(|| Box::pin(service.clone().oneshot(request("a client"))).now_or_never()).unwrap();
    let in_flight = || scraped.sum("rate_limit_in_flight", &[("rate_limit_policy", "open")]);
    let (first, second) = (ask().unwrap(), ask().unwrap());
    assert_eq!(in_flight(), 2.0);
    assert_eq!(ask().unwrap().status(), 429);
    assert_eq!(in_flight(), 2.0, "a refused request holds no permit");
    drop(first);
    assert_eq!(in_flight(), 1.0);
    assert_eq!(second.into_body().collect().now_or_never().unwrap().unwrap().to_bytes(), "hello");
    assert_eq!(in_flight(), 0.0);
}

#[test]
fn responses_that_a_meter_ends_are_counted() {
    let (scraped, (limiter, _)) = (Scraped::new(), local());
    let layer = RateLimitLayer::builder().limit(per_client("8/h").meter_bytes()).limiter(limiter.local());
    let service = layer.build().unwrap();
    let service =
        service.layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(full("hello"))) }));
    let read = || {
        scraped.record(|| {
            let response = Box::pin(service.clone().oneshot(request("a client"))).now_or_never().unwrap().unwrap();
            block_on(response.into_body().collect()).is_ok()
        })
    };
    let cut = || scraped.sum("rate_limit_cut_responses_total", &[("rate_limit_policy", "client")]);
    assert!(read());
    assert_eq!(cut(), 0.0);
    assert!(!read(), "eight bytes are too few for two responses");
    assert_eq!(cut(), 1.0);
}

fn full(text: &'static str) -> Full<Bytes> {
    Full::new(text.into())
}

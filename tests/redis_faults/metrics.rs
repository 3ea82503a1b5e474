//! The metrics of an outage, for a server that is killed and started again.

use std::convert::Infallible;

use http::{Request, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::runtime::Runtime;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_weir::{Global, Limit, OnStoreError, RateLimitLayer, RateLimitLayerBuilder, RateLimiter, RedisOptions};

use crate::DEADLINE;
use crate::support::servers::{Flavor, Server, wait_until};

type SetStore = fn(&RateLimiter, RateLimitLayerBuilder) -> RateLimitLayerBuilder;

/// A layer with a store, and the recorder of its metrics.
struct Site {
    recorder: PrometheusRecorder,
    runtime: Runtime,
    limiter: RateLimiter,
    layer: RateLimitLayer,
}

impl Site {
    fn new(server: &Server, on_store_error: OnStoreError, set: SetStore) -> Self {
        let redis = RedisOptions::url(server.url()).deadline(DEADLINE).on_store_error(on_store_error).instances(1);
        let limiter = RateLimiter::builder().redis(redis).build().unwrap();
        let limit = Limit::per(Global).quota("1000000/min").name("service");
        let builder = set(&limiter, RateLimitLayer::builder().limit(limit).on_store_error(on_store_error));
        Self {
            recorder: PrometheusBuilder::new().with_recommended_naming(true).build_recorder(),
            // One thread, which has the recorder.
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            layer: builder.build().unwrap(),
            limiter,
        }
    }

    fn send(&self) -> u16 {
        let hello = service_fn(async |_| Ok::<_, Infallible>(Response::new(())));
        let response = self.layer.layer(hello).oneshot(Request::new(()));
        ::metrics::with_local_recorder(&self.recorder, || self.runtime.block_on(response)).unwrap().status().as_u16()
    }

    /// The sum of the series with a name and a text.
    fn sum(&self, name: &str, text: &str) -> f64 {
        sum(&self.recorder, name, text)
    }

    /// Sends requests until the sum is as wanted.
    fn until(&self, name: &str, text: &str, is_wanted: fn(f64) -> bool) {
        wait_until(&format!("{name} {text}"), || {
            self.send();
            is_wanted(self.sum(name, text))
        });
    }
}

fn sum(recorder: &PrometheusRecorder, name: &str, text: &str) -> f64 {
    let rendered = recorder.handle().render();
    let series = rendered.lines().filter_map(|line| line.rsplit_once(' '));
    let is_wanted = |series: &str| series.split('{').next() == Some(name) && series.contains(text);
    series.filter(|(series, _)| is_wanted(series)).map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

const BREAKERS: &str = "rate_limit_store_open_breakers";
const DEGRADED: &str = "rate_limit_degraded_decisions_total";
const DECISIONS: &str = "rate_limit_decisions_total";

const STORES: [(&str, SetStore); 2] = [
    ("redis", |limiter, layer| layer.limiter(limiter.redis())),
    ("hybrid", |limiter, layer| layer.limiter(limiter.hybrid())),
];

#[test]
fn an_outage_opens_the_breaker_and_counts_the_decisions_of_the_share() {
    for (store, set) in STORES {
        let server = Server::start(Flavor::Debian);
        let site = Site::new(&server, OnStoreError::LocalShare, set);
        site.until("rate_limit_store_duration_seconds_count", "", |count| count > 0.0);
        site.until(DECISIONS, "admitted", |count| count > 0.0);
        server.kill();
        site.until(BREAKERS, "", |open| open == 1.0);
        site.until(DEGRADED, store, |count| count > 0.0);
        assert!(site.sum("rate_limit_store_failures_total", "error_type=") > 0.0);
        let (degraded, calls) = (site.sum(DEGRADED, ""), site.sum("rate_limit_store_duration_seconds_count", ""));
        assert_eq!(site.send(), 200, "the share decides");
        assert_eq!(site.sum(DEGRADED, "policy=\"service\""), degraded + 1.0, "{store}");
        assert_eq!(site.sum("rate_limit_store_duration_seconds_count", ""), calls, "an open breaker makes no call");
        server.restart();
        site.until(BREAKERS, "", |open| open == 0.0);
        // The admissions of all stores and shares are counted as admissions of the limit.
        assert_eq!(site.sum(DECISIONS, "refused"), 0.0);
        // A breaker that is open when its limiter is dropped leaves the gauge, and so do its keys and leases.
        server.kill();
        site.until(BREAKERS, "", |open| open == 1.0);
        let Site { recorder, runtime, limiter, layer } = site;
        drop((layer, limiter, runtime));
        for gauge in [BREAKERS, "rate_limit_keys", "rate_limit_leases"] {
            wait_until(gauge, || sum(&recorder, gauge, "") == 0.0);
        }
    }
}

#[test]
fn a_failed_store_is_the_reason_of_what_the_policy_admits_or_refuses() {
    let server = Server::start(Flavor::Debian);
    server.kill();
    for (_, set) in STORES {
        for (on_store_error, status, decision) in
            [(OnStoreError::Reject, 503, "refused"), (OnStoreError::Allow, 200, "admitted")]
        {
            let site = Site::new(&server, on_store_error, set);
            assert_eq!([site.send(), site.send()], [status; 2]);
            let labels =
                format!("policy=\"service\",rate_limit_decision=\"{decision}\",rate_limit_reason=\"store_error\"");
            assert_eq!(site.sum(DECISIONS, &labels), 2.0);
            assert_eq!(site.sum(DECISIONS, ""), 2.0);
            assert_eq!(site.sum(DEGRADED, ""), 0.0);
        }
    }
}

#[test]
fn the_hybrid_store_counts_leases_and_syncs() {
    let server = Server::start(Flavor::Debian);
    let site = Site::new(&server, OnStoreError::LocalShare, STORES[1].1);
    site.until("rate_limit_leases", "policy=\"service\",rate_limit_store=\"hybrid\"", |leases| leases == 1.0);
    site.until("rate_limit_syncs_total", "policy=\"service\",rate_limit_sync=\"completed\"", |syncs| syncs > 1.0);
    let give_back = site.limiter.hybrid();
    ::metrics::with_local_recorder(&site.recorder, || site.runtime.block_on(give_back.shutdown()));
    assert_eq!(site.sum("rate_limit_leases", ""), 0.0, "a limiter that is shut down holds no leases");
}

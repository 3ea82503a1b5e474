//! The example with metrics, its dashboard and its alert rules: every name that they use is scraped from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::programs::Server;
use crate::support::servers::{self, Flavor, wait_until};

/// The text of a scrape.
struct Scrape(String);

impl Scrape {
    fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines().filter(|line| line.starts_with("rate_limit"));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, value)| (series, value.parse().unwrap()))
    }

    /// The sum of the series that begin with a name and contain a text.
    fn sum(&self, name: &str, text: &str) -> f64 {
        let is_wanted = |series: &str| series.split('{').next() == Some(name) && series.contains(text);
        self.series().filter(|(series, _)| is_wanted(series)).map(|(_, value)| value).sum()
    }

    /// The names of the series, with those of the parts of histograms.
    fn names(&self) -> BTreeSet<&str> {
        self.series().filter_map(|(series, _)| series.split('{').next()).collect()
    }

    /// The names of the metrics.
    fn families(&self) -> BTreeSet<&str> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE rate_limit"));
        types.filter_map(|line| line.split(' ').next()).collect()
    }

    /// The labels, each with one of its values.
    fn labels(&self) -> BTreeSet<(&str, &str)> {
        let inner = self.series().filter_map(|(series, _)| series.split_once('{')?.1.strip_suffix('}'));
        inner.flat_map(labels).collect()
    }
}

/// The labels in the braces of a series or of a selector, whose values contain no comma.
fn labels(braces: &str) -> impl Iterator<Item = (&str, &str)> {
    braces.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name.trim_end_matches('!'), value.trim_start_matches('~').trim_matches('"')))
    })
}

/// The example, after traffic with refusals, an overload, an overflow, an outage of Redis and its end.
fn scraped() -> &'static Scrape {
    static SCRAPED: OnceLock<Scrape> = OnceLock::new();
    SCRAPED.get_or_init(|| {
        let redis = servers::Server::start(Flavor::Debian);
        let example = Server::start_with("observability", &[], &[("REDIS_URL", &redis.url())]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let get = |path: &str, address: &str| {
            let request = client.get(format!("http://{}{path}", example.address)).header("x-forwarded-for", address);
            // A limit may cut the body.
            runtime.block_on(async { request.send().await.unwrap().text().await.unwrap_or_default() })
        };
        let scrape = || Scrape(get("/metrics", "203.0.113.1"));
        let flood = |clients: u32, requests: u32| {
            for client in 0..clients {
                (0..requests).for_each(|_| drop(get("/", &format!("2001:db8:{client:x}::1"))));
            }
        };
        let until = |name: &str, text: &str, clients: u32, requests: u32| {
            wait_until(&format!("{name} {text}"), || {
                flood(clients, requests);
                scrape().sum(name, text) > 0.0
            });
        };
        let decisions = "rate_limit_decisions_total";
        until(decisions, "policy=\"client\",rate_limit_decision=\"refused\"", 1, 30);
        let few: BTreeSet<(String, String)> = owned(&scrape());
        until("rate_limit_overflow_active", "strict", 300, 1);
        until(decisions, "reason=\"shed\"", 300, 1);
        wait_until("a cut response", || {
            get("/download", "203.0.113.2");
            scrape().sum("rate_limit_cut_responses_total", "download") > 0.0
        });
        until("rate_limit_keys_reclaimed_total", "", 1, 1);
        // A lease is spent soon, and a client over its limit gets none.
        until("rate_limit_leases", "client", 20, 3);
        assert_eq!(scrape().sum("rate_limit_store_open_breakers", ""), 0.0);
        redis.kill();
        until("rate_limit_degraded_decisions_total", "client", 10, 1);
        until("rate_limit_store_open_breakers", "", 10, 1);
        let outage = scrape();
        redis.restart();
        wait_until("the breaker closes", || {
            flood(10, 1);
            scrape().sum("rate_limit_store_open_breakers", "") == 0.0
        });
        let added: Vec<_> = owned(&outage).difference(&few).cloned().collect();
        assert!(added.iter().all(|(_, value)| !value.contains("2001")), "{added:#?}");
        outage
    })
}

fn owned(scrape: &Scrape) -> BTreeSet<(String, String)> {
    scrape.labels().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_scrape_shows_each_limit_and_the_outage() {
    let scrape = scraped();
    let decisions = |text: &str| scrape.sum("rate_limit_decisions_total", text);
    assert!(decisions("policy=\"strict\",rate_limit_decision=\"would_refuse\"") > 0.0, "{}", scrape.0);
    assert_eq!(decisions("policy=\"strict\",rate_limit_decision=\"refused\""), 0.0);
    assert!(decisions("reason=\"exempt\"") > 0.0);
    assert!(scrape.sum("rate_limit_store_duration_seconds_count", "") > 0.0);
    assert!(scrape.sum("rate_limit_store_failures_total", "error_type=") > 0.0);
    assert!(scrape.sum("rate_limit_syncs_total", "completed") > 0.0);
}

#[test]
fn the_dashboard_uses_every_metric_and_only_names_that_are_exported() {
    let dashboard: Value = serde_json::from_str(&file("docs/grafana/tower-weir.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let mut queries: Vec<&str> = Vec::new();
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} has no query", panel["title"]);
        queries.extend(targets.iter().map(|target| target["expr"].as_str().unwrap()));
    }
    let used: BTreeSet<&str> = queries.iter().flat_map(|query| check(query)).collect();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        variable["definition"].as_str().map(check);
    }
    let part = |family: &&str| {
        let names = used.iter().filter_map(|name| name.strip_prefix("rate_limit"));
        names.map(|name| name.trim_end_matches("_bucket")).any(|name| name == *family)
    };
    let families = scraped().families();
    let unused: Vec<_> = families.iter().filter(|family| !part(family)).collect();
    assert!(unused.is_empty(), "no panel shows {unused:?}");
    assert_eq!(families.len(), 14, "{families:?}");
}

#[test]
fn the_alerts_use_only_names_that_are_exported() {
    let rules = file("docs/grafana/alerts.yaml");
    let queries: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(queries.len(), rules.matches("- alert: ").count());
    for query in queries {
        assert!(!check(query).is_empty(), "{query}");
    }
}

#[test]
fn the_check_finds_what_is_not_exported() {
    for query in [
        "rate(rate_limit_decision_total[5m])",
        "rate(rate_limit_decisions_total{rate_limit_outcome=\"refused\"}[5m])",
        "rate(rate_limit_decisions_total{rate_limit_decision=\"rejected\"}[5m])",
        "sum by (rate_limit_limit) (rate_limit_keys)",
    ] {
        assert!(std::panic::catch_unwind(|| check(query)).is_err(), "{query}");
    }
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Checks the names of metrics and labels in a query, and the values of labels. Returns the names of the metrics.
fn check(query: &str) -> BTreeSet<&str> {
    let scrape = scraped();
    let (names, exported) = (scrape.names(), scrape.labels());
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = query.split(|char| !is_part(char)).filter(|word| word.starts_with("rate_limit_"));
    let is_label = |word: &str| exported.iter().any(|(name, _)| *name == word);
    let is_value = |word: &str| exported.iter().any(|(_, value)| *value == word);
    let (metrics, others): (BTreeSet<&str>, BTreeSet<&str>) = words.partition(|word| names.contains(word));
    for word in others {
        assert!(is_label(word) || is_value(word), "{word:?} is not exported, but used in {query}");
    }
    let selectors = query.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    for (name, value) in selectors.flat_map(labels).filter(|(name, _)| name.starts_with("rate_limit_")) {
        let is_known = value.is_empty() || value.starts_with('$') || exported.contains(&(name, value));
        assert!(is_known, "{name}={value} is not exported, but used in {query}");
    }
    metrics
}

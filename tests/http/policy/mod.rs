//! A layer's policy as data and as a table: both are read back, and decide alike.
#![cfg(all(feature = "axum", feature = "serde"))]
#![allow(clippy::unwrap_used)]

mod errors;
mod random;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing;
use http::Request;
use tower::ServiceExt;
use tower_weir::key::{Extension, Header, MissingKey, RequestView};
use tower_weir::layer::{AtLimit, LimitMode};
use tower_weir::{ConfigError, Global, Limit, ManualClock, Quotas, RateLimitConfig, RateLimitLayer, RateLimiter};

use crate::support::http::within;

/// A policy with everything that is not code.
const POLICY: &str = r#"limit          per                          quotas         strategy        mode
client         client-ip behind 10.0.0.0/8  3/min, 1000/h  absolute        enforce
  /export                                   unlimited
  POST /login                               1/min
  cost         /search                      2
tenant         header x-tenant + method     5/s            suppressed 1.2  enforce for 5%
"new  one"     hashed cookie session        blocked        absolute        shadow

exempt          path                         /health
exempt          client-ip behind 10.0.0.0/8  192.0.2.0/24
exempt          client-ip behind 10.0.0.0/8  2001:db8::/32
exempt          grpc-health
deny            client-ip                    198.51.100.7
methods         GET POST
cost            /reports/{id}                5
on-missing-key  shared
on-store-error  reject
"#;

/// The same as a file.
const TOML: &str = r#"
methods = ["GET", "POST"]
on_missing_key = "shared"
on_store_error = "reject"
costs = { "/reports/{id}" = 5 }
deny.networks = { client-ip = ["198.51.100.7"] }

[exempt]
paths = ["/health"]
networks = { "client-ip behind 10.0.0.0/8" = ["192.0.2.0/24", "2001:db8::/32"] }
grpc_health = true

[[limits]]
name = "client"
per = "client-ip behind 10.0.0.0/8"
quotas = ["3/min", "1000/h"]
routes = { "POST /login" = "1/min", "/export" = "unlimited" }
costs = { "/search" = 2 }

[[limits]]
name = "tenant"
per = "header x-tenant + method"
quotas = "5/s"
suppressed = 1.2
mode = "enforce for 5%"

[[limits]]
name = "new  one"
per = "hashed cookie session"
quotas = "blocked"
mode = "shadow"
"#;

fn policy() -> RateLimitConfig {
    POLICY.parse().unwrap()
}

fn app(layer: &RateLimitLayer) -> Router {
    let hello = || async { "hello" };
    Router::new().route("/users/{id}", routing::any(hello)).fallback(hello).layer(layer.clone())
}

#[test]
fn the_file_and_the_table_of_a_policy_are_the_same() {
    assert_eq!(toml::from_str::<RateLimitConfig>(TOML).unwrap(), policy());
    assert_eq!(policy().to_string(), POLICY);
    assert_eq!(RateLimitLayer::from_config(policy()).unwrap().to_string(), POLICY);
    let commented = POLICY.replace("exempt          grpc", "\n  # health\n#\nexempt\tgrpc");
    assert_eq!(commented.parse(), Ok(policy()));
}

#[test]
fn what_a_file_omits_has_a_default() {
    let config: RateLimitConfig = toml::from_str("limits = [{ quotas = \"3/min\" }]").unwrap();
    let layer = RateLimitLayer::from_config(config).unwrap();
    assert_eq!(layer.to_string(), RateLimitLayer::per_minute(3).to_string());
    let expected = "limit    per        quotas  strategy  mode\n\
                    default  client-ip  3/min   absolute  enforce\n\n\
                    on-missing-key  reject\non-store-error  local-share\n";
    assert_eq!(layer.to_string(), expected);
    // A configuration without limits is a mistake, except beside limits of the code.
    let error = RateLimitLayer::from_config(RateLimitConfig::default()).unwrap_err();
    assert!(error.to_string().starts_with("limits: no quota; write"), "{error}");
    let code = RateLimitLayer::builder().quotas(["3/min"]).config(RateLimitConfig::default());
    assert_eq!(code.build().unwrap().to_string(), expected);
}

/// Whatever is code, the table shows that it is there, and which line cannot be read back.
#[test]
fn a_function_is_printed_as_code_and_cannot_be_read_back() {
    let limit = |name: &str| Limit::per(Global).name(name);
    let free = |_: &RequestView<'_>| Quotas::UNLIMITED;
    let find = |_: &RequestView<'_>| async { Ok::<_, std::io::Error>(Quotas::UNLIMITED) };
    let key = |_: &RequestView<'_>| async { Ok::<_, MissingKey>(7_u8) };
    let layer = RateLimitLayer::builder()
        .limit(Limit::per_fn(|_| Some(1_u8)).quota("1/s").name("key").cost(|_| 2))
        .limit(limit("quotas").quota_fn(free))
        .limit(limit("lookup").quota_lookup(find).key_lookup(key))
        .limit(Limit::per((Global, Extension::<u8>::new())).quota("2/s").name("pair").settle(|_, _| {}))
        .limit(limit("tokens").quota("3/s").meter(|_| 1).at_limit(AtLimit::Slow))
        .exempt(|_| false)
        .deny(|_| false)
        .cost(|_| 3)
        .build()
        .unwrap();
    let table = "\
limit       per              quotas  strategy  mode
key         (code)           1/s     absolute  enforce
  cost      (code)
quotas      global           (code)  absolute  enforce
lookup      global + (code)  (code)  absolute  enforce
pair        global + (code)  2/s     absolute  enforce
  settle                     (code)
tokens      global           3/s     absolute  enforce
  meter                      (code)
  at-limit                   slow

exempt          (code)
deny            (code)
cost            (code)
on-missing-key  reject
on-store-error  local-share
";
    assert_eq!(layer.to_string(), table);
    for line in [2, 3, 4, 5, 6, 7, 9, 12, 13, 14] {
        let lines = table.lines().enumerate();
        // The limit of an indented line is not code.
        let limit = if [3, 7, 9].contains(&line) { "a  global  1/s  absolute  enforce" } else { "" };
        let alone = |(at, text)| {
            if at + 1 == line {
                text
            } else if at == 1 {
                limit
            } else {
                ""
            }
        };
        let text: Vec<&str> = lines.map(alone).collect();
        match text.join("\n").parse::<RateLimitConfig>().unwrap_err() {
            ConfigError::InvalidLine { line: found, error } => {
                assert_eq!(found, line);
                assert!(matches!(*error, ConfigError::CodeInText(_)), "{error}");
                assert!(error.to_string().contains("write a value, or set it on the builder"), "{error}");
            }
            error => panic!("{error}"),
        }
    }
}

async fn admitted(app: &Router, client: &str, n: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..n {
        let request = Request::get("/").header("x-client", client).body(Body::empty()).unwrap();
        admitted += usize::from(within(app.clone().oneshot(request)).await.unwrap().status() == 200);
    }
    admitted
}

fn clients(quotas: &str, mode: &str) -> RateLimitConfig {
    format!("client  header x-client  {quotas}  absolute  {mode}").parse().unwrap()
}

/// On a store that was given, and on a store of the layer's own.
#[tokio::test]
async fn a_reload_keeps_every_count() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    for builder in [RateLimitLayer::builder().limiter(rl.local()), RateLimitLayer::builder()] {
        let layer = builder.config(clients("5/h", "enforce")).build().unwrap();
        let (app, control) = (app(&layer), layer.control());
        assert_eq!(admitted(&app, "ann", 3).await, 3);
        control.reload(clients("8/h", "enforce")).unwrap();
        assert_eq!(admitted(&app, "ann", 9).await, 5, "three of eight are in use");
        control.reload(clients("8/h", "shadow")).unwrap();
        assert_eq!(admitted(&app, "ann", 2).await, 2);
        control.reload(clients("2/h", "enforce")).unwrap();
        assert_eq!(admitted(&app, "ann", 9).await, 0);
        assert_eq!(admitted(&app, "bob", 9).await, 2);
        let table = layer.to_string();
        assert!(table.contains("client  header x-client  2/h     absolute  enforce"), "{table}");
    }
}

#[tokio::test]
async fn an_invalid_reload_changes_nothing() {
    let layer = RateLimitLayer::from_config(clients("3/h", "enforce")).unwrap();
    let (app, before) = (app(&layer), layer.to_string());
    assert_eq!(admitted(&app, "ann", 2).await, 2);
    let mut twice = clients("9/h", "off");
    twice.limits.push(twice.limits[0].clone());
    let error = layer.control().reload(twice).unwrap_err();
    assert!(error.to_string().starts_with("limits[1].name: two limits"), "{error}");
    assert!(layer.control().reload(RateLimitConfig::default()).is_err());
    assert_eq!(layer.to_string(), before);
    assert_eq!(admitted(&app, "ann", 9).await, 1);
}

/// A function, a response, a store and a mode that was set at run time.
#[tokio::test]
async fn a_reload_keeps_what_the_code_set() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let layer = RateLimitLayer::builder()
        .limiter(rl.local())
        .limit(Limit::per(Header::new("x-client")).quota("1/h").name("code"))
        .exempt(|req| req.uri().path() == "/internal")
        .status(503)
        .build()
        .unwrap();
    let (app, control) = (app(&layer), layer.control());
    let code = control.limit("code").unwrap();
    code.shadow();
    control.reload(clients("2/h", "enforce")).unwrap();
    assert_eq!(admitted(&app, "ann", 9).await, 2, "the limit of the code is in shadow");
    control.limit("client").unwrap().off();
    control.reload(clients("3/h", "enforce")).unwrap();
    assert_eq!(admitted(&app, "ann", 9).await, 1, "the limit of the configuration has its mode");
    code.enforce();
    let refused = Request::get("/").header("x-client", "ann").body(Body::empty()).unwrap();
    assert_eq!(within(app.clone().oneshot(refused)).await.unwrap().status(), 503);
    let internal = Request::get("/internal").body(Body::empty()).unwrap();
    assert_eq!(within(app.clone().oneshot(internal)).await.unwrap().status(), 200);
    let table = layer.to_string();
    assert!(table.contains("\ncode    header x-client  1/h     absolute  enforce\nclient  header"), "{table}");
    // Without limits, only those of the code remain.
    control.reload(RateLimitConfig::default()).unwrap();
    assert_eq!(control.limits().map(|limit| limit.name().to_owned()).collect::<Vec<_>>(), ["code"]);
}

/// Every request sees the old or the new configuration, and each admits 50 of the same history.
#[test]
fn reloads_under_load_admit_no_unit_more() {
    let layer = RateLimitLayer::from_config(clients("50/h", "enforce")).unwrap();
    let is_over = AtomicBool::new(false);
    let app = app(&layer);
    let admitted: usize = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                layer.control().reload(clients("50/h, 500/d", "enforce")).unwrap();
                layer.control().reload(clients("50/h", "enforce")).unwrap();
            }
        });
        let send = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(admitted(&app, "ann", 300))
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(send)).collect();
        let admitted = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        is_over.store(true, Ordering::Relaxed);
        admitted
    });
    assert_eq!(admitted, 50);
}

/// The control and the table have the same modes.
#[test]
fn a_table_has_the_modes_of_the_control() {
    let layer = RateLimitLayer::from_config(policy()).unwrap();
    layer.control().limit("tenant").unwrap().off();
    layer.control().limit("client").unwrap().set_mode(LimitMode::EnforceFor(12.5)).unwrap();
    let read: RateLimitConfig = layer.to_string().parse().unwrap();
    assert_eq!([read.limits[0].mode, read.limits[1].mode], [LimitMode::EnforceFor(12.5), LimitMode::Off]);
}

/// A limit that moves from the code to a file has the same keys and histories.
#[tokio::test]
async fn a_limit_that_moves_to_a_file_keeps_its_counts() {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let limit = Limit::per((Header::new("x-client").hashed(), Global)).quota("5/h").name("client");
    let layer = RateLimitLayer::builder().limiter(rl.local()).limit(limit).build().unwrap();
    assert_eq!(admitted(&app(&layer), "ann", 3).await, 3);
    let builder = RateLimitLayer::builder().limiter(Arc::new(rl.local().clone()));
    let moved = builder.config(layer.to_string().parse().unwrap()).build().unwrap();
    assert_eq!(admitted(&app(&moved), "ann", 9).await, 2);
    assert_eq!(admitted(&app(&layer), "ann", 9).await, 0);
}

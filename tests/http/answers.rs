//! What clients are told, read from the wire of a real axum server.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Builder;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};
use tower_weir::key::Header;
use tower_weir::response::{Protocol, RateLimitHeaders, RefusalBody, RefusalReason, ResetFormat};
use tower_weir::{ConfigError, Decision, Global, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

const DRAFT8: RateLimitHeaders = RateLimitHeaders::Draft8;

fn builder(quotas: &[&str]) -> RateLimitLayerBuilder {
    let new = RateLimitLayer::builder().key(Global);
    quotas.iter().fold(new, |builder, quota| builder.quota(quota.parse().unwrap()))
}

/// A layer on a clock that stands still, and the clock.
fn timed(builder: RateLimitLayerBuilder) -> (RateLimitLayer, ManualClock) {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    (builder.limiter(rl.local()).build().unwrap(), clock)
}

fn layer(builder: RateLimitLayerBuilder) -> RateLimitLayer {
    timed(builder).0
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello").post(async || "hello"))
}

/// Asks a server on a port of its own, which speaks with nobody else.
struct Server(String);

impl Server {
    async fn start(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self(format!("http://{addr}/"))
    }

    async fn send(&self, with: impl FnOnce(Builder) -> Builder) -> Response<Bytes> {
        let request = with(Request::get(&self.0)).body(Empty::<Bytes>::new()).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (parts, body) = within(client.request(request)).await.unwrap().into_parts();
        Response::from_parts(parts, within(body.collect()).await.unwrap().to_bytes())
    }

    async fn get(&self) -> Response<Bytes> {
        self.send(|request| request).await
    }
}

fn problem(response: &Response<Bytes>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(problem["status"], response.status().as_u16());
    problem
}

/// The members of a RateLimit field: their names, and two integers of each.
fn members(headers: &HeaderMap, name: &str, params: [&str; 2]) -> Vec<(String, [u64; 2])> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
    let list: List = Parser::new(&lines.join(", ")).parse().unwrap();
    let member = |entry: ListEntry| match entry {
        ListEntry::Item(item) => {
            let BareItem::String(name) = &item.bare_item else { panic!("{item:?}") };
            let number = |key: &str| match item.params.get(key) {
                Some(BareItem::Integer(n)) => i64::from(*n).try_into().unwrap(),
                other => panic!("{key} is {other:?}"),
            };
            (name.as_str().to_owned(), params.map(number))
        }
        ListEntry::InnerList(list) => panic!("{list:?}"),
    };
    list.into_iter().map(member).collect()
}

#[tokio::test]
async fn a_refusal_is_a_problem_that_names_the_limits_without_room() {
    let server = Server::start(hello().layer(layer(builder(&["2/s", "2/min", "9/h"]).name("a\"b\\c")))).await;
    for _ in 0..2 {
        assert_eq!(server.get().await.status(), 200);
    }
    let refused = server.get().await;
    assert_eq!((refused.status().as_u16(), retry_after(&refused)), (429, Some(61)));
    assert_eq!(refused.headers()["cache-control"], "no-store");
    let want = json!({
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "violated-policies": ["a\"b\\c", "a\"b\\c-2"],
    });
    assert_eq!(problem(&refused), want);
}

#[tokio::test]
async fn each_reason_has_its_problem() {
    let overload = Server::start(hello().layer(layer(builder(&["1/min"]).suppressed(1.0)))).await;
    assert_eq!(overload.get().await.status(), 200);
    let shed = problem(&overload.get().await);
    assert_eq!(shed["type"], "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity");
    assert_eq!((&shed["status"], &shed["violated-policies"]), (&json!(503), &json!(["default"])));

    let no_key = Server::start(hello().layer(layer(builder(&["1/min"]).key(Header::new("x-api-key"))))).await;
    let refused = no_key.get().await;
    let want = json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "missing rate limit key",
    });
    assert_eq!((problem(&refused), retry_after(&refused)), (want, None));
}

#[tokio::test]
async fn the_body_has_the_form_and_the_message_that_were_set() {
    let reject_all = || RateLimitLayer::builder().key(Global).quota(tower_weir::Quota::reject_all());
    for (builder, content_type, body) in [
        (reject_all().body(RefusalBody::Text), Some("text/plain; charset=utf-8"), "rate limit exceeded"),
        (reject_all().body(RefusalBody::Text).status(503), Some("text/plain; charset=utf-8"), "overloaded"),
        (reject_all().body(RefusalBody::Text).message("100% é"), Some("text/plain; charset=utf-8"), "100% é"),
        (reject_all().body(RefusalBody::Empty), None, ""),
    ] {
        let refused = Server::start(hello().layer(layer(builder))).await.get().await;
        assert_eq!(refused.headers().get("content-type").map(|it| it.to_str().unwrap()), content_type);
        assert_eq!((refused.body().as_ref(), retry_after(&refused)), (body.as_bytes(), None));
    }
    let refused = Server::start(hello().layer(layer(reject_all().message("slow \"down\"")))).await.get().await;
    assert_eq!(problem(&refused)["detail"], "slow \"down\"");
}

#[tokio::test]
async fn a_response_of_ones_own_keeps_what_every_refusal_has() {
    let on_refusal = |builder: RateLimitLayerBuilder, retry_after: &'static str| {
        builder.headers(DRAFT8).on_refusal(move |refusal| {
            assert_eq!((refusal.reason(), refusal.protocol()), (RefusalReason::Limited, Protocol::Http));
            assert_eq!(refusal.decision().unwrap().limit(), 1);
            let text = format!("{} {}", refusal.policy().name(), refusal.policy().quotas()[0]);
            let response = Response::builder().status(418).header("cache-control", "max-age=60");
            response.header(RETRY_AFTER, retry_after).body(text.into()).unwrap()
        })
    };
    for (theirs, want) in [("5", 61), ("soon", 61), ("3600", 3600)] {
        let server = Server::start(hello().layer(layer(on_refusal(builder(&["1/min"]), theirs)))).await;
        assert_eq!(server.get().await.status(), 200);
        let refused = server.get().await;
        assert_eq!((refused.status().as_u16(), retry_after(&refused)), (418, Some(want)));
        assert_eq!(
            (refused.headers()["cache-control"].as_bytes(), &refused.body()[..]),
            (&b"no-store"[..], &b"default 1/min"[..])
        );
        assert_eq!(members(refused.headers(), "ratelimit", ["r", "t"]), [("default".to_owned(), [0, 61])]);
    }
    let same = builder(&["1/min"]).headers(DRAFT8).on_refusal(|refusal| refusal.response().clone());
    let server = Server::start(hello().layer(layer(same))).await;
    assert_eq!(server.get().await.status(), 200);
    let refused = server.get().await;
    assert_eq!((problem(&refused)["status"].as_u64(), retry_after(&refused)), (Some(429), Some(61)));
    assert_eq!(members(refused.headers(), "ratelimit", ["r", "t"]).len(), 1);

    let redirect = builder(&["1/min"])
        .headers(DRAFT8)
        .on_refusal(|_| Response::builder().status(303).header("location", "/slow-down").body(Bytes::new()).unwrap());
    let server = Server::start(hello().layer(layer(redirect))).await;
    assert_eq!(server.get().await.status(), 200);
    let refused = server.get().await;
    assert!(refused.status() == 303 && !refused.headers().contains_key("ratelimit"));
    assert_eq!(retry_after(&refused), None, "of a redirection it means something else");
}

#[tokio::test]
async fn the_decision_is_in_the_extensions_of_a_response_of_ones_own() {
    let own = layer(builder(&["1/min"]).on_refusal(|_| Response::new(Bytes::new())));
    let see = axum::middleware::map_response(async |mut response: axum::response::Response| {
        let used = response.extensions().get::<Decision>().map_or(0, Decision::used);
        response.headers_mut().insert("x-used", used.into());
        response
    });
    let server = Server::start(hello().layer(own).layer(see)).await;
    assert_eq!(server.get().await.headers()["x-used"], "0");
    assert_eq!(server.get().await.headers()["x-used"], "1");
}

#[tokio::test]
async fn rate_limit_fields_are_true_on_every_response() {
    let (limit, clock) = timed(builder(&["3/10s", "5/min"]).name("b\"ur\\st").headers(DRAFT8));
    let server = Server::start(hello().layer(limit)).await;
    let mut refusals = 0;
    for step in 0..40 {
        let answer = server.get().await;
        let policies = members(answer.headers(), "ratelimit-policy", ["q", "w"]);
        let names = ["b\"ur\\st".to_owned(), "b\"ur\\st-2".to_owned()];
        assert_eq!(policies, [(names[0].clone(), [3, 10]), (names[1].clone(), [5, 60])]);
        let told = members(answer.headers(), "ratelimit", ["r", "t"]);
        let [(name, [r, t])] = &told[..] else { panic!("{told:?}") };
        let (_, [q, w]) = policies.iter().find(|(it, _)| it == name).unwrap();
        assert!(r <= q && *t >= 1 && r * w <= q * t, "{told:?}");
        match answer.status().as_u16() {
            200 => assert_eq!(retry_after(&answer), None),
            429 => {
                assert!(*r == 0 && retry_after(&answer).unwrap() >= *t);
                // Who waits as told is admitted, by these fields as by Retry-After.
                clock.advance(Duration::from_secs(*t));
                let answer = server.get().await;
                assert_eq!(answer.status(), 200, "step {step}");
                refusals += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refusals > 5);
}

#[tokio::test]
async fn older_generations_look_as_their_clients_expect() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (headers, names) in [
        (RateLimitHeaders::Draft6, ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]),
        (
            RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds },
            ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
        ),
        (
            RateLimitHeaders::XRateLimit { reset: ResetFormat::EpochSeconds },
            ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
        ),
    ] {
        let server = Server::start(hello().layer(layer(builder(&["2/min"]).headers(headers)))).await;
        for (remaining, reset) in [(1, 60), (0, 61), (0, 61)] {
            let answer = server.get().await;
            let [limit, told, at] = names.map(|name| answer.headers()[name].to_str().unwrap().parse::<u64>().unwrap());
            assert_eq!((limit, told), (2, remaining));
            match headers {
                RateLimitHeaders::XRateLimit { reset: ResetFormat::EpochSeconds } => {
                    assert!((now + reset..now + reset + 60).contains(&at), "{at} at {now}");
                }
                _ => assert_eq!(at, reset),
            }
            assert_eq!(answer.headers().get("ratelimit-policy").is_some(), headers == RateLimitHeaders::Draft6);
        }
    }
}

#[tokio::test]
async fn with_headers_off_nothing_is_told() {
    let server = Server::start(hello().layer(layer(builder(&["1/min"])))).await;
    for _ in 0..2 {
        let answer = server.get().await;
        assert!(!answer.headers().keys().any(|name| name.as_str().contains("ratelimit")), "{answer:?}");
    }
}

#[tokio::test]
async fn stacked_layers_are_both_told_and_the_longer_wait_stands_alone() {
    let stack = |headers| {
        let inner = builder(&["2/s"]).name("inner").headers(headers);
        let outer = builder(&["3/min"]).name("outer").headers(headers);
        hello().layer(layer(inner)).layer(layer(outer))
    };
    let server = Server::start(stack(DRAFT8)).await;
    let told = async || {
        let answer = server.get().await;
        let waits: Vec<_> = answer.headers().get_all(RETRY_AFTER).iter().collect();
        assert!(waits.len() <= 1);
        let list = members(answer.headers(), "ratelimit", ["r", "t"]).into_iter();
        let list: Vec<_> = list.map(|(name, [r, t])| format!("{name} {r} {t}")).collect();
        (answer.status().as_u16(), list.join(", "), retry_after(&answer))
    };
    let line = |text: &str| text.to_owned();
    assert_eq!(told().await, (200, line("inner 1 1, outer 2 60"), None));
    assert_eq!(told().await, (200, line("inner 0 2, outer 1 60"), None));
    // The inner layer refuses, and the outer one has charged its last unit for that.
    assert_eq!(told().await, (429, line("inner 0 2, outer 0 61"), Some(61)));
    // The outer layer refuses, and the inner one is not asked.
    assert_eq!(told().await, (429, line("outer 0 61"), Some(61)));

    let server = Server::start(stack(RateLimitHeaders::Draft6)).await;
    for (limit, remaining, reset) in [("2", "1", "1"), ("2", "0", "2"), ("3", "0", "61"), ("3", "0", "61")] {
        let answer = server.get().await;
        for (name, want) in [("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("ratelimit-reset", reset)]
        {
            let lines: Vec<_> = answer.headers().get_all(name).iter().collect();
            assert_eq!(lines, [want], "{name}");
        }
    }
}

#[tokio::test]
async fn what_the_handler_set_survives() {
    let handler = async || {
        [("ratelimit", r#""backend";r=3;t=9"#), ("ratelimit-policy", r#""backend";q=5;w=9"#), ("x-other", "1")]
    };
    let app = Router::new().route("/", get(handler));
    let server = Server::start(app.layer(layer(builder(&["2/s"]).headers(DRAFT8)))).await;
    let answer = server.get().await;
    let want = [("backend".to_owned(), [3, 9]), ("default".to_owned(), [1, 1])];
    assert_eq!(members(answer.headers(), "ratelimit", ["r", "t"]), want);
    let want = [("backend".to_owned(), [5, 9]), ("default".to_owned(), [2, 1])];
    assert_eq!(members(answer.headers(), "ratelimit-policy", ["q", "w"]), want);
    assert_eq!(answer.headers()["x-other"], "1");

    let busy = async || (http::StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "120")], "later");
    let app = Router::new().route("/", get(busy));
    let server = Server::start(app.layer(layer(builder(&["1/s"]).headers(DRAFT8)))).await;
    assert_eq!(retry_after(&server.get().await), Some(120));
}

#[tokio::test]
async fn redirections_carry_no_field() {
    let app = Router::new().route("/", get(async || Redirect::to("/elsewhere")));
    for headers in [DRAFT8, RateLimitHeaders::Draft7, RateLimitHeaders::Draft6] {
        let server = Server::start(app.clone().layer(layer(builder(&["9/s"]).headers(headers)))).await;
        let answer = server.get().await;
        assert_eq!(answer.status(), 303);
        assert!(!answer.headers().keys().any(|name| name.as_str().contains("ratelimit")));
    }
}

/// A client that polls with an ETag reads the fields too.
#[tokio::test]
async fn not_modified_carries_the_fields() {
    let app = Router::new().route("/", get(async || http::StatusCode::NOT_MODIFIED));
    let server = Server::start(app.layer(layer(builder(&["9/s"]).headers(DRAFT8)))).await;
    let answer = server.get().await;
    assert_eq!(answer.status(), 304);
    assert_eq!(members(answer.headers(), "ratelimit", ["r", "t"]), [("default".to_owned(), [8, 1])]);
}

#[tokio::test]
async fn a_date_in_a_response_of_your_own_stays_if_it_asks_for_longer() {
    const LATER: &str = "Fri, 31 Dec 2100 23:59:59 GMT";
    for (set, want) in [(LATER, LATER), ("Sun, 06 Nov 1994 08:49:37 GMT", "61"), ("7", "61"), ("99", "99")] {
        let refuse = builder(&["1/min"]).on_refusal(move |refusal| {
            let mut response = refusal.response().clone();
            response.headers_mut().insert(RETRY_AFTER, set.parse().unwrap());
            response
        });
        let server = Server::start(hello().layer(layer(refuse))).await;
        assert_eq!(server.get().await.status(), 200);
        assert_eq!(server.get().await.headers()[RETRY_AFTER], want, "{set}");
    }
}

#[tokio::test]
async fn two_families_of_fields_stand_on_one_answer() {
    let x = RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds };
    let server = Server::start(hello().layer(layer(builder(&["1/min"]).headers(DRAFT8).also_headers(x)))).await;
    for (status, remaining, reset) in [(200, 0, 61), (429, 0, 61)] {
        let answer = server.get().await;
        assert_eq!(answer.status(), status);
        assert_eq!(members(answer.headers(), "ratelimit", ["r", "t"])[0].1, [remaining, reset]);
        assert_eq!(answer.headers()["x-ratelimit-remaining"], remaining.to_string());
        assert_eq!(answer.headers()["x-ratelimit-reset"], reset.to_string());
    }
    let error = builder(&["1/min"]).headers(DRAFT8).also_headers(RateLimitHeaders::Draft7).build().unwrap_err();
    assert_eq!(error, ConfigError::HeadersConflict);
}

/// A grpc-c client loses the status of a refusal whose headers exceed 8 kB.
#[test]
fn a_message_or_name_that_a_grpc_client_cannot_read_is_a_configuration_error() {
    let is_too_large = |builder: RateLimitLayerBuilder| match builder.build() {
        Ok(_) => false,
        Err(ConfigError::AnswerTooLarge { bytes, most }) => bytes > most,
        Err(other) => panic!("{other}"),
    };
    let many = &["1/s", "2/s", "3/s", "4/s", "5/s", "6/s", "7/s", "8/s"][..];
    for (builder, want) in [
        (builder(&["1/s"]).message("m".repeat(2_000)), false),
        (builder(&["1/s"]).message("m".repeat(4_000)), true),
        // Each of these bytes takes three in gRPC's encoding.
        (builder(&["1/s"]).message("é".repeat(1_000)), true),
        (builder(&["1/s"]).message("é".repeat(20_000)).protocol(Protocol::Http), false),
        (builder(many).name("n".repeat(100)).headers(DRAFT8), false),
        (builder(many).name("n".repeat(700)).headers(DRAFT8), true),
        (builder(many).name("n".repeat(1_100)).headers(DRAFT8).protocol(Protocol::Http), true),
    ] {
        assert_eq!(is_too_large(builder), want);
    }
}

/// A content type must not hide a refusal from logs, metrics and firewalls behind the status 200.
#[tokio::test]
async fn a_grpc_content_type_disguises_no_refusal_of_http_1() {
    let server = Server::start(hello().layer(layer(builder(&["1/min"])))).await;
    assert_eq!(server.get().await.status(), 200);
    for (method, version) in
        [("GET", http::Version::HTTP_11), ("GET", http::Version::HTTP_10), ("POST", http::Version::HTTP_11)]
    {
        let ask = |it: Builder| it.method(method).version(version).header("content-type", "application/grpc");
        let refused = server.send(ask).await;
        assert_eq!((refused.status().as_u16(), retry_after(&refused)), (429, Some(61)), "{method} {version:?}");
        assert!(!refused.headers().contains_key("grpc-status"));
    }
    let web = |it: Builder| it.header("content-type", "application/grpc-web+proto");
    assert_eq!(server.send(web).await.status(), 429, "gRPC-Web is always POST");
}

#[tokio::test]
async fn grpc_web_is_answered_as_it_is_asked() {
    let server = Server::start(hello().layer(layer(builder(&["1/min"]).message("100% é")))).await;
    assert_eq!(server.get().await.status(), 200);
    for (content_type, accept, want) in [
        ("application/grpc-web-text", "*/*", Some("application/grpc-web-text+proto")),
        ("application/grpc-web+proto", "application/grpc-web-text", Some("application/grpc-web-text+proto")),
        ("application/grpc-web", "*/*", Some("application/grpc-web+proto")),
        // HTTP/1.1 carries no gRPC.
        ("application/grpc", "*/*", None),
        ("application/grpcfoo", "*/*", None),
    ] {
        let ask = |request: Builder| request.header("content-type", content_type).header("accept", accept);
        let refused = server.send(|request| ask(request.method("POST"))).await;
        let headers = refused.headers();
        assert_eq!(headers["content-type"], want.unwrap_or("application/problem+json"), "{content_type}");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(refused.status(), if want.is_some() { 200 } else { 429 });
        assert_eq!(refused.body().is_empty(), want.is_some());
        for (name, want_of_grpc) in
            [("grpc-status", "8"), ("grpc-message", "100%25 %C3%A9"), ("grpc-retry-pushback-ms", "60010")]
        {
            let lines: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(lines, want.map(|_| want_of_grpc).into_iter().collect::<Vec<_>>(), "{content_type}: {name}");
        }
    }
}

#[tokio::test]
async fn a_fixed_protocol_is_spoken_to_everyone() {
    for (protocol, content_type, is_grpc) in
        [(Protocol::Grpc, "text/html", true), (Protocol::Http, "application/grpc", false)]
    {
        let server = Server::start(hello().layer(layer(builder(&["1/min"]).protocol(protocol)))).await;
        assert_eq!(server.get().await.status(), 200);
        let refused = server.send(|request| request.header("content-type", content_type)).await;
        assert_eq!(refused.headers().contains_key("grpc-status"), is_grpc);
        assert_eq!(refused.status(), if is_grpc { 200 } else { 429 });
    }
}

#[tokio::test]
async fn preflights_pass_only_where_they_are_exempt() {
    for is_exempt in [false, true] {
        let app = Router::new().route("/", get(async || "hello").options(async || "asked"));
        let server = Server::start(app.layer(layer(builder(&["1/min"]).exempt_preflight(is_exempt)))).await;
        assert_eq!(server.get().await.status(), 200);
        let ask = |request: Builder| request.method("OPTIONS").header("origin", "https://example.com");
        let preflight = |request| ask(request).header("access-control-request-method", "POST");
        for _ in 0..3 {
            assert_eq!(server.send(preflight).await.status(), if is_exempt { 200 } else { 429 });
        }
        assert_eq!(server.send(ask).await.status(), 429, "OPTIONS alone is no preflight");
        let post = |request| preflight(request).method("POST");
        assert_eq!(server.send(post).await.status(), 429);
    }
}

#[tokio::test]
async fn jitter_only_lengthens_the_wait() {
    let refuse = builder(&["1/min"]).headers(DRAFT8).jitter(Duration::from_secs(30));
    let server = Server::start(hello().layer(layer(refuse))).await;
    assert_eq!(server.get().await.status(), 200);
    let mut waits = Vec::new();
    for _ in 0..40 {
        let refused = server.get().await;
        let wait = retry_after(&refused).unwrap();
        assert_eq!(members(refused.headers(), "ratelimit", ["r", "t"])[0].1, [0, wait], "both name one time");
        waits.push(wait);
    }
    assert!(waits.iter().all(|wait| (61..=91).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|&wait| wait != waits[0]), "{waits:?}");
}

#[test]
fn a_name_that_cannot_be_told_is_a_configuration_error() {
    let error = builder(&["1/s"]).name("käse").build().unwrap_err();
    assert_eq!(error, ConfigError::InvalidPolicyName("käse".into()));
}

/// Everything that an answer of any kind adds can be read by pages of other origins.
#[tokio::test]
async fn all_that_is_told_is_exposed() {
    let x = RateLimitHeaders::XRateLimit { reset: ResetFormat::DeltaSeconds };
    for headers in [DRAFT8, RateLimitHeaders::Draft7, RateLimitHeaders::Draft6, x] {
        for content_type in ["text/plain", "application/grpc-web"] {
            let server = Server::start(hello().layer(layer(builder(&["1/min"]).headers(headers)))).await;
            assert_eq!(server.get().await.status(), 200);
            let refused = server.send(|it| it.method("POST").header("content-type", content_type)).await;
            let safe = ["cache-control", "content-type", "content-length", "date"];
            let mut told = refused.headers().keys().filter(|name| !safe.contains(&name.as_str()));
            assert!(told.all(|name| tower_weir::response::EXPOSED_HEADERS.contains(name)), "{refused:?}");
        }
    }
}

//! What clients that others wrote make of a refusal: reqwest, curl and gRPC's own Python client.
//!
//! Those that are programs are ignored by a plain `cargo test`; tests/run.sh finds or installs them, and runs
//! their tests.
#![cfg(all(feature = "axum", feature = "tonic"))]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use tower_weir::response::RateLimitHeaders;
use tower_weir::{ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

fn builder(quota: &str) -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quota(quota.parse().unwrap())
}

/// The layer on a clock that stands still, and the clock.
fn timed(builder: RateLimitLayerBuilder) -> (RateLimitLayer, ManualClock) {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    (builder.limiter(rl.local()).build().unwrap(), clock)
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    addr
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// What a program wrote, which ends by itself and well.
async fn run(mut command: Command) -> String {
    let name = format!("{command:?}");
    let ended = tokio::task::spawn_blocking(move || command.output());
    let Output { status, stdout, stderr } = ended.await.unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(status.success(), "{name}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[tokio::test]
async fn reqwest_reads_the_wait_the_fields_and_the_problem() {
    let (layer, clock) = timed(builder("2/min").name("api").headers(RateLimitHeaders::Draft8));
    let url = format!("http://{}/", serve(hello().layer(layer)).await);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async || within(client.get(&url).send()).await.unwrap();
    let field = |response: &reqwest::Response, name: &str| response.headers()[name].to_str().unwrap().to_owned();

    for left in [r#""api";r=1;t=60"#, r#""api";r=0;t=61"#] {
        let admitted = get().await;
        assert_eq!((admitted.status(), admitted.headers().get("retry-after")), (reqwest::StatusCode::OK, None));
        assert_eq!(field(&admitted, "ratelimit"), left);
        assert_eq!(within(admitted.text()).await.unwrap(), "hello");
    }
    let refused = get().await;
    assert_eq!(refused.status(), reqwest::StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(field(&refused, "ratelimit-policy"), r#""api";q=2;w=60"#);
    assert_eq!(field(&refused, "ratelimit"), r#""api";r=0;t=61"#);
    assert_eq!(field(&refused, "content-type"), "application/problem+json");
    let wait = Duration::from_secs(field(&refused, "retry-after").parse().unwrap());
    let problem: Value = serde_json::from_slice(&within(refused.bytes()).await.unwrap()).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((&problem["status"], &problem["violated-policies"]), (&json!(429), &json!(["api"])));

    clock.advance(wait - Duration::from_secs(1));
    assert_eq!(get().await.status(), 429);
    clock.advance(Duration::from_secs(1));
    assert_eq!(get().await.status(), 200);
}

/// A request's arrival, and its answer's status and `Retry-After`.
type Seen = Arc<Mutex<Vec<(Instant, u16, Option<u64>)>>>;

async fn watch(State(seen): State<Seen>, request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let response = next.run(request).await;
    seen.lock().unwrap().push((arrived, response.status().as_u16(), retry_after(&response)));
    response
}

/// By itself curl would try again after one second, and be refused again. By the system's clock, since curl
/// has no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl; tests/run.sh runs it"]
async fn curl_retries_when_it_is_told_to() {
    let seen = Seen::default();
    let layer = builder("1/3s").build().unwrap();
    let app = hello().layer(layer).layer(from_fn_with_state(Arc::clone(&seen), watch));
    let url = format!("http://{}/", serve(app).await);

    let mut curl = Command::new("curl");
    // No settings of the user's; and the first of two requests takes all there is.
    curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--retry", "1"]);
    // To files, which curl empties when it tries again.
    let [one, two] = ["curl-1", "curl-2"].map(|name| format!("{}/{name}", env!("CARGO_TARGET_TMPDIR")));
    curl.args(["--write-out", "%{http_code} ", "--output", &one, &url, "--output", &two, &url]);
    assert_eq!(run(curl).await, "200 200 ", "{seen:?}");
    assert_eq!(std::fs::read_to_string(two).unwrap(), "hello");

    let seen = seen.lock().unwrap().clone();
    let [(_, 200, None), (refused_at, 429, Some(wait)), (again_at, 200, None)] = seen[..] else { panic!("{seen:?}") };
    assert!((3..=4).contains(&wait), "{wait}");
    assert!(again_at - refused_at >= Duration::from_secs(wait), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with tests/clients/grpcio/requirements.txt; tests/run.sh installs it and runs this"]
async fn grpcio_reads_what_a_tonic_client_reads() {
    let (layer, clock) = timed(builder("2/min").quota("9/h".parse().unwrap()).name("burst").message("100% é"));
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    let python = std::env::var("GRPCIO_PYTHON").expect("GRPCIO_PYTHON names the Python that has grpcio");
    let grpcio = async |calls: usize| -> Vec<Value> {
        let mut command = Command::new(&python);
        command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/grpcio/client.py"), &addr.to_string()]);
        command.arg(calls.to_string());
        run(command).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };

    let answers = grpcio(3).await;
    assert_eq!(answers[..2], [json!({"code": "OK"}), json!({"code": "OK"})]);
    let want = json!({
        "code": "RESOURCE_EXHAUSTED",
        "message": "100% é",
        "pushback": ["60010"],
        "details": {
            "google.rpc.RetryInfo": 60_010,
            "google.rpc.QuotaFailure": [["policy:burst", "limit 2 per 60s"]],
        },
    });
    assert_eq!(answers[2..], [want]);

    let channel = within(Endpoint::from_shared(format!("http://{addr}")).unwrap().connect()).await.unwrap();
    let status = within(HealthClient::new(channel).check(HealthCheckRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "100% é"));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, Duration::from_millis(60_010));
    let [violation] = &status.get_details_quota_failure().unwrap().violations[..] else { panic!("{status:?}") };
    assert_eq!((violation.subject.as_str(), violation.description.as_str()), ("policy:burst", "limit 2 per 60s"));

    clock.advance(wait);
    assert_eq!(grpcio(1).await, [json!({"code": "OK"})]);
}

//! What a browser makes of a limited service: over a real socket, as a page of another origin.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::ServiceBuilder;
use tower_http::cors::CorsLayer;
use tower_http::trace::TraceLayer;
use tower_weir::response::{EXPOSED_HEADERS, RateLimitHeaders};
use tower_weir::{ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

const PAGE: &str = "https://app.example";

/// One request per minute and client, on a clock that stands still.
fn limit(with: impl FnOnce(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> RateLimitLayer {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let builder = RateLimitLayer::builder().quota("1/min".parse().unwrap()).limiter(rl.local());
    with(builder.headers(RateLimitHeaders::Draft8)).build().unwrap()
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static(PAGE))
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE])
        .expose_headers(EXPOSED_HEADERS)
}

fn hello() -> Router {
    Router::new().route("/", post(async || "hello"))
}

/// A browser with a page of another origin open.
struct Browser(SocketAddr);

/// What the page's script gets: a response of which it may read some headers, or a failure that says nothing.
type Fetched = Result<Response<Bytes>, &'static str>;

impl Browser {
    async fn open(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self(addr)
    }

    async fn send(&self, request: http::request::Builder, body: &'static str) -> Response<Bytes> {
        let request =
            request.uri(format!("http://{}/", self.0)).header(ORIGIN, PAGE).body(Full::<Bytes>::from(body)).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (parts, body) = within(client.request(request)).await.unwrap().into_parts();
        Response::from_parts(parts, within(body.collect()).await.unwrap().to_bytes())
    }

    /// Asks whether JSON may be posted, as Fetch has it ("CORS-preflight fetch"); whether it may.
    async fn preflight(&self) -> bool {
        let ask = Request::builder().method("OPTIONS").header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let answer = self.send(ask.header(ACCESS_CONTROL_REQUEST_HEADERS, "content-type"), "").await;
        let lists =
            |name: HeaderName, value: &str| list(answer.headers(), &name).any(|it| it.eq_ignore_ascii_case(value));
        (answer.status().is_success() && answer.body().is_empty())
            && lists(ACCESS_CONTROL_ALLOW_ORIGIN, PAGE)
            && lists(ACCESS_CONTROL_ALLOW_METHODS, "POST")
            && lists(ACCESS_CONTROL_ALLOW_HEADERS, "content-type")
    }

    /// `fetch("..", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })`.
    async fn fetch(&self) -> Fetched {
        if !self.preflight().await {
            return Err("the preflight failed");
        }
        let mut response =
            self.send(Request::builder().method("POST").header(CONTENT_TYPE, "application/json"), "{}").await;
        if response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).is_none_or(|origin| origin != PAGE) {
            return Err("the response is of no concern to this page");
        }
        let exposed: Vec<_> = list(response.headers(), &ACCESS_CONTROL_EXPOSE_HEADERS).map(str::to_owned).collect();
        // Fetch, "CORS-safelisted response-header name".
        let safe = "cache-control content-language content-length content-type expires last-modified pragma";
        let is_readable = |name: &HeaderName| {
            safe.split(' ').any(|it| it == name.as_str())
                || exposed.iter().any(|it| it.eq_ignore_ascii_case(name.as_str()))
        };
        let hidden: Vec<_> = response.headers().keys().filter(|name| !is_readable(name)).cloned().collect();
        for name in hidden {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(|line| line.to_str().unwrap().split(',')).map(str::trim)
}

#[tokio::test]
async fn a_page_reads_the_refusal_of_a_limit_inside_the_cors_layer() {
    let layers = ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(cors()).layer(limit(|it| it));
    let browser = Browser::open(hello().layer(layers)).await;
    for _ in 0..3 {
        assert!(browser.preflight().await, "preflights are not counted");
    }
    let admitted = browser.fetch().await.unwrap();
    assert_eq!((admitted.status().as_u16(), admitted.body().as_ref()), (200, &b"hello"[..]));
    assert_eq!(admitted.headers()["ratelimit"], "\"default\";r=0;t=61");
    for _ in 0..3 {
        let refused = browser.fetch().await.unwrap();
        assert_eq!((refused.status().as_u16(), retry_after(&refused)), (429, Some(61)));
        assert_eq!(refused.headers()["ratelimit"], "\"default\";r=0;t=61");
        assert_eq!(refused.headers()["ratelimit-policy"], "\"default\";q=1;w=60");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert!(refused.headers().get("vary").is_none(), "what is not exposed is hidden, so this shows something");
    }
    assert!(browser.preflight().await, "the client is over its limit, and may still ask");
}

/// Why the CORS layer belongs around the limit.
#[tokio::test]
async fn a_page_cannot_read_the_refusal_of_a_limit_around_the_cors_layer() {
    let layers = |limit| ServiceBuilder::new().layer(limit).layer(cors());
    let counted = Browser::open(hello().layer(layers(limit(|it| it)))).await;
    assert!(counted.preflight().await);
    assert_eq!(counted.fetch().await.unwrap_err(), "the preflight failed");

    let exempt = Browser::open(hello().layer(layers(limit(|it| it.exempt_preflight(true))))).await;
    assert_eq!(exempt.fetch().await.unwrap().status(), 200);
    assert_eq!(exempt.fetch().await.unwrap_err(), "the response is of no concern to this page");
    let readable = |refusal: &tower_weir::response::RefusalContext<'_>| {
        let mut response = refusal.response().clone();
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(PAGE));
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
        response
    };
    let own = Browser::open(hello().layer(layers(limit(|it| it.exempt_preflight(true).on_refusal(readable))))).await;
    assert_eq!(own.fetch().await.unwrap().status(), 200);
    assert_eq!(retry_after(&own.fetch().await.unwrap()), Some(61));
}

/// Any OPTIONS request is answered by the CORS layer; without one it counts like others.
#[tokio::test]
async fn only_preflights_are_exempt() {
    let browser = Browser::open(hello().layer(limit(|it| it.exempt_preflight(true)))).await;
    assert!(!browser.preflight().await, "nobody here answers it");
    assert_eq!(browser.send(Request::builder().method("OPTIONS"), "").await.status(), 405);
    assert_eq!(browser.send(Request::builder().method("OPTIONS"), "").await.status(), 429);
}

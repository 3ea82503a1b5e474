//! The router for operators: over real sockets, as an operator and as a page of another site.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_weir::key::{Extension, Header, HttpMethod};
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store};
use tower_weir::{
    Ban, ClientIp, ConfigError, Decision, Global, Limit, RateLimitLayer, StoreError, StoreErrorKind, TopKeys, admin,
};

use crate::limits::{app, builder};
use crate::support::http::within;

const JSON: &str = "application/json";

/// A response: its status, its body as JSON, and whether it is never stored.
#[derive(Debug)]
struct Seen {
    status: u16,
    body: Value,
    content_type: String,
    is_stored: bool,
}

impl Seen {
    fn detail(&self) -> &str {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        assert_eq!((&self.body["status"], &self.body["type"]), (&json!(self.status), &json!("about:blank")));
        self.body["detail"].as_str().unwrap()
    }
}

/// A server on a real socket, and a client.
struct Server {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn send(&self, method: Method, path: &str, content_type: Option<&str>, body: String) -> Seen {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let response = within(self.client.request(request.body(Full::from(body)).unwrap())).await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (content_type, cache) = (header("content-type").unwrap_or_default(), header("cache-control"));
        let status = response.status().as_u16();
        let body = within(response.into_body().collect()).await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Seen { status, body, content_type, is_stored: cache.as_deref() != Some("no-store") }
    }

    async fn get(&self, path: &str) -> Seen {
        let seen = self.send(Method::GET, path, None, String::new()).await;
        assert!(!seen.is_stored, "{seen:?}");
        seen
    }

    async fn post(&self, path: &str, body: Value) -> Seen {
        let seen = self.send(Method::POST, path, Some(JSON), body.to_string()).await;
        assert!(!seen.is_stored, "{seen:?}");
        seen
    }
}

fn tenant() -> Limit {
    Limit::per(Header::new("x-tenant")).quota("2/h").name("tenant").top_keys(TopKeys::names(10))
}

async fn operators(layer: &RateLimitLayer) -> Server {
    Server::start(admin::router(layer.control())).await
}

/// The statuses of requests to the service.
async fn statuses<const N: usize>(layer: &RateLimitLayer, name: &'static str, values: [&str; N]) -> [u16; N] {
    let app = app(layer);
    let mut statuses = [0; N];
    for (status, value) in statuses.iter_mut().zip(values) {
        let request = Request::get("/").header(name, value).body(Body::empty()).unwrap();
        *status = within(app.clone().oneshot(request)).await.unwrap().status().as_u16();
    }
    statuses
}

/// What a ranking shows is pasted into a reset and a block, by the key and by the id.
#[tokio::test]
async fn an_operator_finds_who_is_limited_and_acts_on_it() {
    let layer = builder().0.limit(tenant().ban(Ban::manual())).build().unwrap();
    let operators = operators(&layer).await;
    assert_eq!(statuses(&layer, "x-tenant", ["acme", "acme", "acme", "zeta"]).await, [200, 200, 429, 200]);
    let top = operators.get("/limits/tenant/top?by=refusals&n=20").await.body;
    let exactly = |count: u64| json!({"at_least": count, "at_most": count});
    let acme = &top["keys"][0];
    assert_eq!(
        (&top["keys"].as_array().unwrap().len(), &acme["key"], &acme["requests"], &acme["refusals"]),
        (&1, &json!("acme"), &exactly(3), &exactly(1))
    );
    let by_requests = operators.get("/limits/tenant/top?by=requests&n=1").await.body;
    assert_eq!((&by_requests["keys"], &by_requests["requests"]), (&json!([acme]), &json!(4)));
    assert_eq!(operators.get("/limits/tenant/top").await.body["by"], "refusals");

    let before = operators.post("/limits/tenant/reset", json!({"key": acme["key"]})).await;
    assert_eq!((before.status, &before.body["before"]["used"]), (200, &json!(2)), "{before:?}");
    assert_eq!(statuses(&layer, "x-tenant", ["acme", "acme", "acme"]).await, [200, 200, 429]);
    let id = json!({"id": acme["id"]});
    assert_eq!(operators.post("/limits/tenant/reset", id.clone()).await.body["before"]["used"], 2);
    assert_eq!(statuses(&layer, "x-tenant", ["acme"]).await, [200]);
    let usage = operators.post("/limits/tenant/usage", id.clone()).await.body;
    let now = json!({"used": 1, "limit": 2, "remaining": 1, "reset_after_seconds": 3_601, "blocked_seconds": null});
    assert_eq!(usage, json!({"key": "acme", "now": now}));

    let blocked = operators.post("/limits/tenant/block", json!({"id": acme["id"], "seconds": 600})).await.body;
    assert_eq!((&blocked["key"], &blocked["now"]["blocked_seconds"]), (&json!("acme"), &json!(601)), "and a bucket");
    assert_eq!(statuses(&layer, "x-tenant", ["acme", "zeta"]).await, [429, 200]);
    let before = operators.post("/limits/tenant/unblock", json!({"key": "acme"})).await.body;
    assert_eq!(before["before"]["blocked_seconds"], 601);
    assert_eq!(statuses(&layer, "x-tenant", ["acme"]).await, [200]);
    let nobody = operators.post("/limits/tenant/reset", json!({"key": "nobody"})).await.body;
    assert_eq!(nobody["before"]["used"], 0, "an operator sees that nothing was in use");
}

#[tokio::test]
async fn the_limits_are_listed_and_their_modes_change() {
    let layer = builder()
        .0
        .limit(tenant().routes([("POST /login", "1/h")]).ban("20 in 1h for 1d"))
        .limit(Limit::per((HttpMethod, ClientIp::hops(1))).in_flight(4).name("cap"))
        .limit(Limit::per(Global).quota("9/s").suppressed(1.5).shadow().name("service"))
        .build()
        .unwrap();
    let operators = operators(&layer).await;
    let listed = operators.get("/limits").await.body;
    let tenant = json!({
        "name": "tenant", "mode": "enforce", "key": "header x-tenant", "quotas": "2/h",
        "routes": {"POST /login": "1/h"}, "strategy": "absolute", "in_flight": null, "ban": "20 in 1h for 1d",
        "top_keys": "10 names",
    });
    let cap = json!({
        "name": "cap", "mode": "enforce", "key": "method + client-ip hops 1", "quotas": "4 in flight", "routes": {},
        "strategy": "absolute", "in_flight": 4, "ban": null, "top_keys": null,
    });
    let service = json!({
        "name": "service", "mode": "shadow", "key": "global", "quotas": "9/s", "routes": {},
        "strategy": "suppressed 1.5", "in_flight": null, "ban": null, "top_keys": null,
    });
    assert_eq!(listed, json!({"limits": [tenant, cap, service]}));
    for mode in ["off", "enforce for 5%"] {
        let changed = operators.post("/limits/cap/mode", json!({"mode": mode})).await;
        assert_eq!((changed.status, &changed.body["mode"]), (200, &json!(mode)));
        assert_eq!(layer.control().limit("cap").unwrap().mode().to_string(), mode);
    }
    for mode in ["on", "enforce for 101%"] {
        let error = operators.post("/limits/cap/mode", json!({"mode": mode})).await;
        assert!(error.status == 422 && error.detail().contains("write"), "{error:?}");
    }
}

/// A whole address of a client, in each of its forms, is the key of its network.
#[tokio::test]
async fn an_address_hits_the_key_of_its_client() {
    let peer: SocketAddr = "[2001:db8:1:2:3:4:5:6]:4000".parse().unwrap();
    for (limit, keys) in [
        (Limit::per(ClientIp::peer()), [json!({"ip": "2001:db8:1:2:3:4:5:6"}), json!({"ip": "2001:DB8:1:2::9"})]),
        (
            Limit::per(ClientIp::peer().v6_prefix(48)),
            [json!({"ip": "2001:db8:1:ffff::1"}), json!({"ip": "2001:db8:1::"})],
        ),
        (
            Limit::per((HttpMethod, ClientIp::peer())),
            [json!(["GET", {"ip": "2001:db8:1:2:3:4:5:6"}]), json!(["GET", {"ip": "2001:db8:1:2::"}])],
        ),
    ] {
        let layer = builder().0.limit(limit.quota("1/h").name("client").top_keys("9 names")).build().unwrap();
        let operators = operators(&layer).await;
        let ask = async || {
            let request = Request::get("/").extension(peer).body(Body::empty()).unwrap();
            within(app(&layer).oneshot(request)).await.unwrap().status().as_u16()
        };
        for key in keys {
            assert_eq!([ask().await, ask().await], [200, 429], "{key}");
            let before = operators.post("/limits/client/reset", json!({"key": key})).await.body;
            assert_eq!(before["before"]["used"], 1, "{key}");
            assert_eq!(before["key"], operators.get("/limits/client/top").await.body["keys"][0]["key"]);
            layer.control().limit("client").unwrap().key(&peer.ip()).reset().await.unwrap();
        }
    }
}

/// Both forms of a number, and a tuple, reach the keys that only they have.
#[tokio::test]
async fn each_kind_of_key_is_reached() {
    #[derive(Clone)]
    struct Id<T>(T);
    async fn check<T>(value: T, json: Value, other: Value)
    where
        T: tower_weir::key::Key + Clone + Send + Sync + 'static,
    {
        let limit = Limit::per(Extension::<T>::new()).quota("1/h").name("id").top_keys("9 names");
        let layer = builder().0.limit(limit).build().unwrap();
        let request = Request::get("/").extension(Id(0)).extension(value).body(Body::empty()).unwrap();
        assert_eq!(within(app(&layer).oneshot(request)).await.unwrap().status(), 200);
        let operators = operators(&layer).await;
        assert_eq!(operators.get("/limits/id/top?by=requests").await.body["keys"][0]["key"], json);
        for (key, used) in [(other, 0), (json, 1)] {
            let before = operators.post("/limits/id/reset", json!({"key": key})).await.body;
            assert_eq!(before["before"]["used"], used, "{key}");
        }
    }
    check(5_u64, json!(5), json!({"signed": 5})).await;
    check(5_i64, json!({"signed": 5}), json!(5)).await;
    check(("acme".to_owned(), 5_u8), json!({"tuple": ["acme", 5]}), json!(["acme", 5])).await;
    check(vec![0x9f_u8, 0x86], json!({"bytes": "9f86"}), json!("9f86")).await;
}

#[tokio::test]
async fn the_key_of_a_global_limit_is_null() {
    let layer = builder().0.limit(Limit::per(Global).quota("1/h").name("service").top_keys("1 names")).build().unwrap();
    statuses(&layer, "x-any", ["a", "a"]).await;
    let operators = operators(&layer).await;
    let key = &operators.get("/limits/service/top").await.body["keys"][0];
    assert_eq!(key.as_object().unwrap().get("key"), Some(&Value::Null));
    assert_eq!(operators.post("/limits/service/reset", json!({"key": null})).await.body["before"]["used"], 1);
    assert_eq!(statuses(&layer, "x-any", ["a", "a"]).await, [200, 429]);
}

#[tokio::test]
async fn a_mistake_is_a_problem_that_states_what_to_write() {
    let hashed = Limit::per(Header::new("x-key").hashed()).quota("9/h").name("hashed").top_keys("9 ids");
    let layer = builder()
        .0
        .limit(tenant())
        .limit(Limit::per(ClientIp::peer()).quota("9/h").name("client").ban(Ban::manual()))
        .limit(hashed)
        .build()
        .unwrap();
    let operators = operators(&layer).await;
    let ip = json!({"ip": "203.0.113.7"});
    for (path, body, status, detail) in [
        ("/limits/other/usage", json!({"key": "a"}), 404, "write one of [\"tenant\", \"client\", \"hashed\"]"),
        ("/limits/tenant/usage", json!({"key": []}), 422, "write null for global"),
        ("/limits/tenant/usage", json!({"key": 1.5}), 422, "write an integer"),
        ("/limits/tenant/usage", json!({"key": 5}), 422, "the key of this limit is `header x-tenant`"),
        ("/limits/tenant/usage", json!({}), 422, "write either \"key\" or \"id\""),
        ("/limits/tenant/usage", json!({"key": "a", "id": "0"}), 422, "write either \"key\" or \"id\""),
        ("/limits/tenant/usage", json!({"key": "a", "seconds": 5}), 422, "only a block has \"seconds\""),
        ("/limits/tenant/usage", json!({"kye": "a"}), 422, "unknown field `kye`"),
        ("/limits/tenant/usage", json!([]), 422, "key"),
        ("/limits/tenant/usage", json!({"id": "xyz"}), 422, "16 hexadecimal digits"),
        ("/limits/tenant/usage", json!({"id": "0123456789abcdef"}), 404, "no key with this id"),
        ("/limits/tenant/block", json!({"key": "a", "seconds": 5}), 409, "this limit has no ban"),
        ("/limits/tenant/unblock", json!({"key": "a"}), 409, "this limit has no ban"),
        ("/limits/client/usage", json!({"key": "203.0.113.7"}), 422, "{\"ip\": \"203.0.113.7\"}"),
        ("/limits/client/block", json!({"key": ip}), 422, "write for how long"),
        ("/limits/client/block", json!({"key": ip, "seconds": 0}), 422, "write for how long"),
        ("/limits/client/block", json!({"key": ip, "seconds": -1}), 422, "seconds"),
        ("/limits/client/block", json!({"key": ip, "seconds": u64::MAX}), 422, "lasts at most 600s"),
        ("/limits/client/mode", json!({"mode": 5}), 422, "mode"),
        ("/limits/hashed/reset", json!({"key": "secret"}), 422, "hashed header x-key"),
    ] {
        let error = operators.post(path, body.clone()).await;
        assert_eq!(error.status, status, "{path} {body}: {error:?}");
        assert!(error.detail().contains(detail), "{path} {body}: {error:?}");
    }
    for (path, status, detail) in [
        ("/limits/other/top", 404, "no limit has the name \"other\""),
        ("/limits/%FF/top", 400, "UTF-8"),
        ("/limits/client/top", 409, "write .top_keys("),
        ("/limits/tenant/top?by=name", 400, "unknown variant `name`"),
        ("/limits/tenant/top?n=-1", 400, "n"),
        ("/limits/tenant/top?limit=5", 400, "unknown field `limit`"),
    ] {
        let error = operators.get(path).await;
        assert_eq!(error.status, status, "{path}: {error:?}");
        assert!(error.detail().contains(detail), "{path}: {error:?}");
    }
    // A syntax error, and a body that is too large.
    let send = async |body: String| operators.send(Method::POST, "/limits/tenant/usage", Some(JSON), body).await;
    assert_eq!((send("{".into()).await.status, send("[".repeat(9_999)).await.status), (400, 400));
    assert_eq!(send(json!({"key": "x".repeat(70_000)}).to_string()).await.status, 413);
    // A hashed key is shown as its id alone, and its digest is reached by the id only if names are kept.
    statuses(&layer, "x-key", ["secret"]).await;
    let ids = operators.get("/limits/hashed/top?by=requests").await.body;
    assert!(ids["keys"].as_array().unwrap().iter().all(|key| key.get("key").is_none()), "{ids}");
}

/// A page of another site can send these content types without a preflight, and gets no answer to a preflight.
#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let layer = builder().0.limit(tenant().ban(Ban::manual())).build().unwrap();
    let operators = operators(&layer).await;
    statuses(&layer, "x-tenant", ["acme"]).await;
    let simple = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];
    for content_type in simple.map(Some).into_iter().chain([None]) {
        for path in ["/limits/tenant/reset", "/limits/tenant/block", "/limits/tenant/unblock", "/limits/tenant/mode"] {
            let body = json!({"key": "acme", "seconds": 60, "mode": "off"}).to_string();
            let refused = operators.send(Method::POST, path, content_type, body).await;
            assert_eq!(refused.status, 415, "{content_type:?} {path}: {refused:?}");
        }
    }
    let preflight = operators.send(Method::OPTIONS, "/limits/tenant/reset", None, String::new()).await;
    assert_eq!(preflight.status, 405);
    for path in ["/limits/tenant/reset", "/limits/tenant/mode"] {
        assert_eq!(operators.send(Method::GET, path, None, String::new()).await.status, 405, "{path}");
    }
    let limit = layer.control().limit("tenant").unwrap();
    assert_eq!(limit.key("acme").usage().await.unwrap().unwrap().used(), 1);
    assert_eq!((limit.key("acme").blocked_for().await.unwrap(), limit.mode().to_string()), (None, "enforce".into()));
}

#[tokio::test]
async fn a_store_that_is_unavailable_is_a_503() {
    #[derive(Debug)]
    struct Broken;
    impl Store for Broken {
        fn open(&self, _: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
            Ok(Arc::new(Self))
        }
    }
    fn unavailable() -> BudgetResponse {
        BudgetResponse::Ready(Err(StoreError::new(StoreErrorKind::Unavailable, "the store is down")))
    }
    impl Budget for Broken {
        fn decide(&self, _: BudgetRequest<'_>) -> BudgetResponse {
            unavailable()
        }
        fn peek(&self, _: BudgetRequest<'_>) -> BudgetResponse {
            unavailable()
        }
        fn refund(&self, _: &[u8], _: u64, _: &Decision) {}
    }
    let layer = RateLimitLayer::builder().limit(tenant().ban(Ban::manual())).limiter(Arc::new(Broken)).build().unwrap();
    let operators = operators(&layer).await;
    for path in ["/limits/tenant/usage", "/limits/tenant/reset", "/limits/tenant/unblock"] {
        let error = operators.post(path, json!({"key": "acme"})).await;
        assert_eq!((error.status, error.detail()), (503, "the store is down"), "{path}");
    }
}

/// Under a path with a parameter, in a router with a state, and after an update that removes a limit.
#[tokio::test]
async fn the_router_fits_into_others_and_follows_updates() {
    #[derive(Clone)]
    struct Own;
    let layer = builder().0.limit(tenant()).build().unwrap();
    let own: Router<Own> = Router::new().nest("/{region}/admin", admin::router(layer.control()));
    let server = Server::start(own.with_state(Own)).await;
    assert_eq!(server.get("/eu/admin/limits").await.body["limits"][0]["name"], "tenant");
    assert_eq!(server.post("/eu/admin/limits/tenant/usage", json!({"key": "a"})).await.body["now"]["used"], 0);
    layer.control().update(RateLimitLayer::builder().limit(tenant().name("renamed"))).unwrap();
    assert_eq!(server.get("/eu/admin/limits/tenant/top").await.status, 404);
    assert_eq!(server.get("/eu/admin/limits/renamed/top").await.status, 200);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "acme|203\\.0\\.113\\.7|[0-9a-f]{0,16}|\\PC{0,9}".prop_map(Value::from),
    ];
    let field = "key|id|seconds|mode|ip|bytes|signed|some|tuple|values|raw|none";
    leaf.prop_recursive(4, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(field, inner, 0..3).prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Each answer is JSON with a status of the table, whatever an operator sends.
    #[test]
    fn no_request_panics(
        path in "/limits/(tenant|[a-z]{1,3}|%[0-9A-F]{2}|%C3%A9)/(top|usage|reset|block|unblock|mode)\
                 (\\?(by|n|x)=[a-z0-9%]{0,4})?",
        body in any_json(),
        is_post in any::<bool>(),
    ) {
        let layer = builder().0.limit(tenant().ban(Ban::manual())).build().unwrap();
        let router: Router = admin::router(layer.control());
        let request = Request::builder().method(if is_post { "POST" } else { "GET" }).uri(path);
        let request = request.header("content-type", JSON).body(Body::from(body.to_string()));
        prop_assume!(request.is_ok());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let response = within(router.oneshot(request.unwrap())).await.unwrap();
            let status = response.status().as_u16();
            assert!([200, 400, 404, 405, 409, 422].contains(&status), "{status}");
            assert_eq!(response.headers()["cache-control"], "no-store");
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert!(status == 405 || serde_json::from_slice::<Value>(&body).is_ok(), "{body:?}");
        });
    }
}

/// The time of a block is the one that was asked for, up to that of the ban.
#[tokio::test]
async fn a_block_lasts_as_long_as_the_operator_asks() {
    let (layers, clock) = builder();
    let layer = layers.limit(tenant().ban(Ban::manual().lasting(Duration::from_secs(3_600)))).build().unwrap();
    let operators = operators(&layer).await;
    operators.post("/limits/tenant/block", json!({"key": "acme", "seconds": 60})).await;
    clock.advance(Duration::from_secs(59));
    assert_eq!(statuses(&layer, "x-tenant", ["acme"]).await, [429]);
    clock.advance(Duration::from_millis(1_100));
    assert_eq!(statuses(&layer, "x-tenant", ["acme"]).await, [200]);
}

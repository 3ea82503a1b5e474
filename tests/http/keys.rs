//! The keys that say what is asked for and by whom, over real axum servers.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_weir::key::{Cookie, Extension, Header, HttpMethod, Key, KeyWriter, MissingKey, RequestView, Route};
use tower_weir::{ClientIp, KeyExtractor, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};

/// A server, and a client of it.
struct Server {
    addr: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { addr, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = within(self.client.request(request.body(Empty::new()).unwrap())).await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(retry_after(&response).is_some(), status == 429, "{method} {path}: {status}");
        status
    }

    async fn get(&self, path: &str) -> u16 {
        self.status("GET", path, &[]).await
    }

    async fn get_as(&self, name: &str, value: &str) -> u16 {
        self.status("GET", "/", &[(name, value)]).await
    }
}

/// One request per minute and key, on a clock that stands still.
fn once(key: impl KeyExtractor) -> RateLimitLayer {
    let limiter = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    RateLimitLayer::builder().quota("1/min".parse().unwrap()).key(key).limiter(limiter.local()).build().unwrap()
}

async fn ok() -> &'static str {
    "ok"
}

#[tokio::test]
async fn each_route_has_a_budget_whatever_its_parameters() {
    let app = Router::new().route("/users/{id}", get(ok)).route("/users/me", get(ok)).route("/search", get(ok));
    let server = Server::start(app.layer(once(Route))).await;
    for path in ["/users/1", "/users/me", "/search"] {
        assert_eq!(server.get(path).await, 200, "{path}");
    }
    for path in ["/users/1", "/users/2", "/users/me", "/search?q=new"] {
        assert_eq!(server.get(path).await, 429, "{path}");
    }
}

#[tokio::test]
async fn all_paths_without_a_route_share_a_budget() {
    let app = Router::new().route("/", get(ok)).nest("/api", Router::new().route("/users", get(ok)));
    let server = Server::start(app.layer(once(Route))).await;
    assert_eq!(server.get("/invented/1").await, 404);
    for path in ["/invented/1", "/invented/2", "/unmatched", "/api/invented"] {
        assert_eq!(server.get(path).await, 429, "{path}");
    }
    assert_eq!(server.get("/").await, 200);
}

#[tokio::test]
async fn a_layer_around_the_router_sees_no_route() {
    let inner = Router::new().route("/a", get(ok)).route("/b", get(ok));
    let server = Server::start(Router::new().fallback_service(inner).layer(once(Route))).await;
    assert_eq!(server.get("/a").await, 200);
    assert_eq!(server.get("/b").await, 429);
}

#[tokio::test]
async fn nested_routers_give_the_joined_template() {
    let users = Router::new().route("/users/{id}", get(ok));
    let app = Router::new().nest("/v1/{tenant}", users.clone()).nest("/v2/{tenant}", users.clone()).merge(users);
    let server = Server::start(app.layer(once(Route))).await;
    for path in ["/v1/acme/users/1", "/v2/acme/users/1", "/users/1"] {
        assert_eq!(server.get(path).await, 200, "{path}");
    }
    for path in ["/v1/other/users/2", "/v2/other/users/2", "/users/2"] {
        assert_eq!(server.get(path).await, 429, "{path}");
    }

    // The layer of the inner router sees the whole template, and no route of the outer one.
    let limited = Router::new().route("/users/{id}", get(ok)).layer(once((Route, Template)));
    let server = Server::start(Router::new().nest("/v1/{tenant}", limited)).await;
    assert_eq!(server.get("/v1/acme/users/1").await, 200);
    assert_eq!(server.get("/v1/other/users/2").await, 429);
}

/// Holds what axum says to what [`Route`] must write.
struct Template;

impl KeyExtractor for Template {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let (mut route, mut expected) = (KeyWriter::new(), KeyWriter::new());
        Route.key(req, &mut route)?;
        expected.write("/v1/{tenant}/users/{id}");
        assert_eq!(route.as_bytes(), expected.as_bytes());
        out.write("");
        Ok(())
    }
}

#[tokio::test]
async fn routes_of_each_client_and_method() {
    let app = Router::new().route("/a", get(ok).post(ok)).route("/b", get(ok));
    let server = Server::start(app.layer(once((Route, HttpMethod, ClientIp::peer())))).await;
    for (method, path) in [("GET", "/a"), ("POST", "/a"), ("GET", "/b")] {
        assert_eq!(server.status(method, path, &[]).await, 200, "{method} {path}");
        assert_eq!(server.status(method, path, &[]).await, 429, "{method} {path}");
    }
    assert_eq!(server.status("INVENTED", "/a", &[]).await, 405);
    assert_eq!(server.status("ANOTHER", "/a", &[]).await, 429);
}

/// The authenticated user.
#[derive(Clone)]
struct User(String);

impl Key for User {
    fn write_to(&self, out: &mut KeyWriter) {
        out.write(&self.0);
    }
}

async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let token = request.headers().get("authorization").ok_or(StatusCode::UNAUTHORIZED)?;
    let user = token.to_str().unwrap().split('.').next().unwrap().to_owned();
    request.extensions_mut().insert(User(user));
    Ok(next.run(request).await)
}

#[tokio::test]
async fn each_user_has_a_budget_whatever_the_token() {
    let app = Router::new().route("/", get(ok)).layer(once(Extension::<User>::new())).layer(from_fn(authenticate));
    let server = Server::start(app).await;
    assert_eq!(server.get_as("authorization", "alice.1").await, 200);
    assert_eq!(server.get_as("authorization", "alice.2").await, 429);
    assert_eq!(server.get_as("authorization", "bob.1").await, 200);
    assert_eq!(server.get("/").await, 401);
}

#[tokio::test]
async fn without_the_extension_the_service_is_at_fault() {
    let server = Server::start(Router::new().route("/", get(ok)).layer(once(Extension::<User>::new()))).await;
    assert_eq!(server.get_as("authorization", "alice.1").await, 500);
}

#[tokio::test]
async fn hashed_values_have_budgets_of_their_own() {
    let app = || Router::new().route("/", get(ok));
    let server = Server::start(app().layer(once(Header::new("x-api-key").hashed()))).await;
    assert_eq!(server.get_as("x-api-key", "one").await, 200);
    assert_eq!(server.get_as("x-api-key", "one").await, 429);
    assert_eq!(server.get_as("x-api-key", "two").await, 200);
    assert_eq!(server.get("/").await, 400);

    let server = Server::start(app().layer(once(Cookie::new("session").hashed()))).await;
    assert_eq!(server.get_as("cookie", "theme=dark; session=one").await, 200);
    assert_eq!(server.get_as("cookie", "session=one; theme=light").await, 429);
    assert_eq!(server.get_as("cookie", "session=two").await, 200);
    assert_eq!(server.get_as("cookie", "theme=dark").await, 400);
}

/// The check reads the first line, as most do. A client with a valid key must not buy budgets with a second one.
#[tokio::test]
async fn a_second_line_of_a_checked_header_is_no_second_budget() {
    async fn check(request: Request, next: Next) -> Result<Response, StatusCode> {
        match request.headers().get("x-api-key").map(http::HeaderValue::as_bytes) {
            Some(b"valid") => Ok(next.run(request).await),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    }

    for key in [Header::new("x-api-key"), Header::new("x-api-key").hashed()] {
        let app = Router::new().route("/", get(ok)).layer(once(key)).layer(from_fn(check));
        let server = Server::start(app).await;
        let lines = |second: &'static str| [("x-api-key", "valid"), ("x-api-key", second)];
        assert_eq!(server.status("GET", "/", &lines("17")).await, 400);
        assert_eq!(server.get_as("x-api-key", "valid").await, 200);
        assert_eq!(server.get_as("x-api-key", "valid").await, 429);
        assert_eq!(server.status("GET", "/", &lines("18")).await, 400);
        assert_eq!(server.get_as("x-api-key", "invalid").await, 401);
    }
}

#[tokio::test]
async fn a_key_function_says_whose_fault_a_missing_key_is() {
    let layer = |builder: fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder| {
        let limiter = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
        builder(RateLimitLayer::builder().quota("1/min".parse().unwrap()).limiter(limiter.local())).build().unwrap()
    };
    let option = layer(|builder| {
        builder.key_fn(|req| {
            let token = req.headers().get("authorization")?;
            Some(token.as_bytes().to_vec())
        })
    });
    let result = layer(|builder| {
        builder.key_fn(|req| {
            let user = req.extensions().get::<User>().ok_or(MissingKey::server_fault("no user"))?;
            Ok(user.0.clone())
        })
    });
    for (layer, missing) in [(option, 400), (result, 500)] {
        let app = || Router::new().route("/", get(ok)).layer(layer.clone());
        let outside = Server::start(app()).await;
        assert_eq!(outside.get("/").await, missing);
        let inside = Server::start(app().layer(from_fn(authenticate))).await;
        assert_eq!(inside.get_as("authorization", "alice.1").await, 200);
        assert_eq!(inside.get_as("authorization", "alice.1").await, 429);
        assert_eq!(inside.get_as("authorization", "bob.1").await, 200);
    }
}

/// A connection has another port each time, and an IPv6 client another address if it likes.
#[test]
fn the_network_of_a_client_is_its_key_in_a_closure_too() {
    let network = |peer: &str| {
        let peer: SocketAddr = peer.parse().unwrap();
        let request = http::Request::builder().extension(peer).body(()).unwrap();
        ClientIp::peer().network(&RequestView::new(&request)).unwrap()
    };
    assert_eq!(network("[2001:db8::1]:1"), network("[2001:db8::2]:2"));
    assert_eq!(network("203.0.113.9:1"), network("203.0.113.9:2"));
    assert_ne!(network("[2001:db8::1]:1"), network("[2001:db8:0:1::1]:1"));
}

//! Three ways to say who is limited: an extractor of one's own, a closure, and two keys joined.
//!
//! ```text
//! cargo run --example custom_key            # or with a port of your own: PORT=8080 cargo run ...
//! curl -i -H 'authorization: Bearer ann' http://127.0.0.1:3000/user   # 3 in any 10 seconds for ann
//! curl -i -H 'authorization: Bearer bob' http://127.0.0.1:3000/user   # bob has his own 3
//! curl -i -H 'authorization: Bearer bob' http://127.0.0.1:3000/plan   # ann and bob share the plan's 3
//! curl -i -H 'authorization: Bearer ann' http://127.0.0.1:3000/pair   # 3 for ann from each address
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Router, routing::get};
use tower_weir::key::{KeyWriter, MissingKey, RequestView};
use tower_weir::{ClientIp, ConfigError, KeyExtractor, RateLimitLayer};

/// Who sent a request, as the authentication found out. What a client merely claims makes a bad key: it
/// would take a new one for every request.
#[derive(Clone)]
struct User {
    id: u64,
    plan: &'static str,
}

/// An extractor of one's own. It writes numbers, strings, addresses or several of them; up to 64 bytes
/// nothing is allocated.
struct ByUser;

impl KeyExtractor for ByUser {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let user = req.extensions().get::<User>().ok_or(MissingKey::server_fault("no authenticated user"))?;
        out.write(&user.id);
        Ok(())
    }
}

fn app() -> Result<Router, ConfigError> {
    let by_user = RateLimitLayer::builder().quota("3/10s".parse()?).key(ByUser).build()?;
    let by_plan = RateLimitLayer::builder()
        .quota("3/10s".parse()?)
        .key_fn(|req| req.extensions().get::<User>().map(|user| user.plan))
        .build()?;
    let by_pair = RateLimitLayer::builder().quota("3/10s".parse()?).key((ByUser, ClientIp::peer())).build()?;
    // Around the authentication, so that guessing tokens is limited too.
    let by_peer = RateLimitLayer::builder().quota("100/10s".parse()?).build()?;

    Ok(Router::new()
        .route("/user", get(|| async { "limited by user\n" }).layer(by_user))
        .route("/plan", get(|| async { "limited by plan\n" }).layer(by_plan))
        .route("/pair", get(|| async { "limited by user and address\n" }).layer(by_pair))
        // A layer that is added later runs earlier: first the address, then the user, then the route's limit.
        .layer(from_fn(authenticate))
        .layer(by_peer))
}

/// Stands for a real authentication.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let user = match token {
        Some(b"Bearer ann") => User { id: 1, plan: "free" },
        Some(b"Bearer bob") => User { id: 2, plan: "free" },
        _ => return Err(StatusCode::UNAUTHORIZED),
    };
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;

    let url = format!("http://{}", listener.local_addr()?);
    println!("Listening on {url}. Four times each:");
    println!("  curl -i -H 'authorization: Bearer ann' {url}/user   # 3 in any 10 seconds for ann");
    println!("  curl -i -H 'authorization: Bearer bob' {url}/user   # bob has his own 3");
    println!("  curl -i -H 'authorization: Bearer bob' {url}/plan   # ann and bob share the plan's 3");
    println!("  curl -i -H 'authorization: Bearer ann' {url}/pair   # 3 for ann from each address");
    println!("Ctrl-C stops it.");

    axum::serve(listener, app()?.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

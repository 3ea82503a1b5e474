//! Three limits in one decision: a user, the tenant of the user, and the whole service.
//!
//! ```text
//! cargo run --example tenant_and_global     # or with a port of your own: PORT=8080 cargo run ...
//! for i in $(seq 10); do curl -s -H 'authorization: Bearer ann' http://127.0.0.1:3000/; done    # 3 of 10
//! for i in $(seq 10); do curl -s -H 'authorization: Bearer bob' http://127.0.0.1:3000/; done    # 2: the tenant has 5
//! for i in $(seq 10); do curl -s -H 'authorization: Bearer eve' http://127.0.0.1:3000/; done    # 2: the service has 7
//! ```
//!
//! A refused request is charged to no limit. So the seven requests of Ann that are refused cost Bob and Eve nothing.

use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Router, routing::get};
use tower_weir::key::MissingKey;
use tower_weir::layer::RateLimitHandle;
use tower_weir::{ConfigError, Global, Limit, RateLimitLayer};

/// The user, as the authentication found out.
#[derive(Clone, Copy)]
struct User {
    id: u64,
    tenant: &'static str,
}

const NO_USER: MissingKey = MissingKey::server_fault("no authenticated user");

fn app() -> Result<Router, ConfigError> {
    let user = Limit::per_fn(|req| req.extensions().get::<User>().map(|user| user.id).ok_or(NO_USER));
    let tenant = Limit::per_fn(|req| req.extensions().get::<User>().map(|user| user.tenant).ok_or(NO_USER));
    let layer = RateLimitLayer::builder()
        .limit(user.quota("3/10s").name("user"))
        .limit(tenant.quota("5/10s").name("tenant"))
        .limit(Limit::per(Global).quota("7/10s").name("service"))
        .handle(true) // so that the handler can read what is left
        .build()?;
    Ok(Router::new().route("/", get(hello)).layer(layer).layer(from_fn(authenticate)))
}

async fn hello(limits: RateLimitHandle) -> String {
    let left = |limit| limits.remaining(limit).unwrap_or_default();
    format!("left: user {}, tenant {}, service {}\n", left("user"), left("tenant"), left("service"))
}

/// Stands for a real authentication.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let user = match token {
        Some(b"Bearer ann") => User { id: 1, tenant: "acme" },
        Some(b"Bearer bob") => User { id: 2, tenant: "acme" },
        Some(b"Bearer eve") => User { id: 3, tenant: "other" },
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
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}. In any 10 seconds: 3 for a user, 5 for a tenant, 7 for all. Ten times each:");
    println!("  curl -s -H 'authorization: Bearer ann' {url}   # 3, and 2 are left for the tenant");
    println!("  curl -s -H 'authorization: Bearer bob' {url}   # 2, of the same tenant");
    println!("  curl -s -H 'authorization: Bearer eve' {url}   # 2, which are left for all");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app()?).await?;
    Ok(())
}

//! A service with a second listener for operators, who see the busiest clients, and reset, block and unblock them.
//!
//! ```text
//! cargo run --example operations --features admin
//! for i in 1 2 3 4; do curl -s -o /dev/null -w '%{http_code}\n' -H 'x-tenant: acme' http://127.0.0.1:3000/; done
//! export AUTH='Authorization: Bearer secret'
//! curl -s -H "$AUTH" 'http://127.0.0.1:3001/limits/tenant/top?by=refusals'
//! curl -s -H "$AUTH" --json '{"key": "acme"}' http://127.0.0.1:3001/limits/tenant/reset
//! curl -s -H "$AUTH" --json '{"key": "acme", "seconds": 60}' http://127.0.0.1:3001/limits/tenant/block
//! ```
//!
//! `ADMIN_TOKEN` sets the token, which is `secret` without it.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_weir::key::Header;
use tower_weir::{Ban, ConfigError, Limit, RateLimitLayer, TopKeys, admin};

/// Operators see and block tenants, so their keys keep names, and the limit has a ban that only operators begin.
fn limit() -> Result<RateLimitLayer, ConfigError> {
    let tenant = Limit::per(Header::new("x-tenant")).quota("3/min").name("tenant");
    RateLimitLayer::builder().limit(tenant.top_keys(TopKeys::names(100)).ban(Ban::manual())).build()
}

/// Admits requests with the token. It also keeps out pages in a browser on this machine, which can reach a loopback
/// address too.
async fn authenticated(State(expected): State<String>, request: Request, next: Next) -> Response {
    match request.headers().get("authorization") {
        Some(given) if is_equal(given.as_bytes(), expected.as_bytes()) => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// Takes the same time wherever two tokens of one length differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

async fn listen(port: u16) -> Result<TcpListener, Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await;
    Ok(listener.map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3002"))?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let token = std::env::var("ADMIN_TOKEN").unwrap_or_else(|_| "secret".into());
    let layer = limit()?;

    let operators = admin::router(layer.control()).layer(from_fn_with_state(format!("Bearer {token}"), authenticated));
    let for_operators = listen(if port == 0 { 0 } else { port + 1 }).await?;
    let url = format!("http://{}/limits", for_operators.local_addr()?);
    tokio::spawn(async move { axum::serve(for_operators, operators).await });

    let listener = listen(port).await?;
    println!(
        "Listening on http://{}/ with 3 requests a minute for each x-tenant. Ctrl-C stops it.",
        listener.local_addr()?
    );
    println!("Operators: {url}, with the token");
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(layer);
    axum::serve(listener, app).await?;
    Ok(())
}

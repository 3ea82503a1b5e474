//! A new limit in production without risk: first in shadow, then for 5 % of the users, then for all.
//!
//! ```text
//! cargo run --example shadow_rollout        # or with a port of your own: PORT=8080 cargo run ...
//! for i in 1 2 3 4; do curl -i -H 'x-user: ann' http://127.0.0.1:3000/; done    # 200 each; the server prints a line
//! curl http://127.0.0.1:3000/admin                                              # 1 of 4 would have been refused
//! curl -X POST http://127.0.0.1:3000/admin/enforce_for/5                        # 5 % of the users, always the same
//! curl -X POST http://127.0.0.1:3000/admin/enforce                              # all: ann gets 429 at once
//! curl -X POST http://127.0.0.1:3000/admin/shadow                               # back
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use tower_weir::key::Header;
use tower_weir::layer::{LimitControl, LimitMode, RateLimitHandle};
use tower_weir::{ConfigError, Limit, RateLimitLayer};

/// What the administrator sees and changes.
#[derive(Clone)]
struct Admin {
    limit: LimitControl,
    admitted: Arc<AtomicU64>,
    would_refuse: Arc<AtomicU64>,
}

fn app() -> Result<Router, ConfigError> {
    // `x-user` stands for what an authentication finds.
    let limit = Limit::per(Header::new("x-user")).quota("3/10s").name("user").shadow();
    let layer = RateLimitLayer::builder().limit(limit).handle(true).build()?;
    let admin = Admin { limit: layer.control().limit("user")?, admitted: Arc::default(), would_refuse: Arc::default() };
    let limited = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(from_fn_with_state(admin.clone(), report)) // inside the limit, where the handle is
        .layer(layer);
    // In a real service, the administrator's routes need an authentication, or a port of their own.
    let routes = Router::new()
        .route("/admin", get(show))
        .route("/admin/{mode}", post(switch))
        .route("/admin/enforce_for/{percent}", post(enforce_for));
    Ok(routes.with_state(admin).merge(limited))
}

/// Reports each request that the limit in shadow would have refused.
async fn report(State(admin): State<Admin>, limits: RateLimitHandle, request: Request, next: Next) -> Response {
    admin.admitted.fetch_add(1, Ordering::Relaxed);
    for limit in limits.limits().filter(|limit| !limit.is_enforced) {
        if let Some(decision) = limit.decision.filter(|decision| !decision.is_allowed()) {
            admin.would_refuse.fetch_add(1, Ordering::Relaxed);
            let (used, of) = (decision.used(), decision.limit());
            println!("{} would have refused a request: {used} of {of} in use", limit.name);
        }
    }
    next.run(request).await
}

async fn show(State(admin): State<Admin>) -> String {
    let (admitted, would) = (admin.admitted.load(Ordering::Relaxed), admin.would_refuse.load(Ordering::Relaxed));
    format!("{:?}: {would} of {admitted} admitted requests would have been refused\n", admin.limit.mode())
}

async fn switch(State(admin): State<Admin>, Path(mode): Path<String>) -> Result<String, StatusCode> {
    match mode.as_str() {
        "shadow" => admin.limit.shadow(),
        "enforce" => admin.limit.enforce(),
        "off" => admin.limit.off(),
        _ => return Err(StatusCode::NOT_FOUND),
    }
    Ok(show(State(admin)).await)
}

async fn enforce_for(State(admin): State<Admin>, Path(percent): Path<f64>) -> Result<String, (StatusCode, String)> {
    let set = admin.limit.set_mode(LimitMode::EnforceFor(percent));
    set.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    Ok(show(State(admin)).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: 3 in any 10 seconds for each user, and nothing is refused yet. Try:");
    println!("  curl -i -H 'x-user: ann' {url}   # four times 200, and a line is printed here");
    println!("  curl {url}admin                  # what would have been refused");
    println!("  curl -X POST {url}admin/enforce_for/5   # also: admin/enforce, admin/shadow, admin/off");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app()?).await?;
    Ok(())
}

//! Quotas and costs by route, in one layer: how often a client may call each route, and how much work it may cause.
//!
//! ```text
//! cargo run --example routes                # or with a port of your own: PORT=8080 cargo run ...
//! for i in 1 2 3; do curl -i -X POST http://127.0.0.1:3000/login; done    # the third gets 429
//! for i in 1 2 3; do curl -i http://127.0.0.1:3000/reports/$i; done       # 5 units each of 14: the third gets 429
//! curl -i http://127.0.0.1:3000/                                          # 1 unit: 200
//! curl -i http://127.0.0.1:3000/health                                    # 200, however often
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::MatchedPath;
use axum::{
    Router,
    routing::{get, post},
};
use tower_weir::key::RequestView;
use tower_weir::response::RateLimitHeaders;
use tower_weir::{ClientIp, ConfigError, Limit, RateLimitLayer};

/// The units of work that a request causes.
fn work(request: &RequestView<'_>) -> u64 {
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/reports/{id}") => 5,
        _ => 1,
    }
}

fn app() -> Result<Router, ConfigError> {
    let requests = Limit::per(ClientIp::peer()).quota("10/10s").routes([("POST /login", "2/10s")]);
    let units = Limit::per(ClientIp::peer()).quota("14/10s").cost(work);
    let layer = RateLimitLayer::builder()
        .limit(requests.name("requests"))
        .limit(units.name("work"))
        .exempt_paths(["/health"])
        .headers(RateLimitHeaders::Draft8)
        .build()?;
    let hello = || async { "hello\n" };
    let router = Router::new().route("/", get(hello)).route("/login", post(hello)).route("/reports/{id}", get(hello));
    Ok(router.route("/health", get(hello)).layer(layer))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: 14 units of work in any 10 seconds from each client. Three times each:");
    println!("  curl -i -X POST {url}login   # 2 in any 10 seconds; `ratelimit` lists both limits");
    println!("  curl -i {url}reports/7       # 5 units");
    println!("  curl -i {url}                # 1 unit");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app()?.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

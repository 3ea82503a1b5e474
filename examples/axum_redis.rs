//! Axum servers that share one limit through Redis: 10 requests in any 10 seconds from each client, on all of
//! them together.
//!
//! ```text
//! PORT=3000 cargo run --example axum_redis --features redis-tokio
//! PORT=3001 cargo run --example axum_redis --features redis-tokio    # in a second terminal
//! for i in 1 2 3 4 5 6; do curl -s 127.0.0.1:3000 127.0.0.1:3001; done   # the last two are refused
//! ```
//!
//! `REDIS_URL` says where Redis is, by default at redis://127.0.0.1:6379. Stop it while the servers run, or
//! start them without it: they answer all the same, each within its share of the limit.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::{Router, routing::get};
use tower_weir::response::RateLimitHeaders;
use tower_weir::{OnStoreError, RateLimitLayer, RateLimiter, RedisOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;

    // No request waits longer than this for Redis; 50 ms is the default too. Nothing connects yet, so Redis may
    // be started later.
    let redis = RedisOptions::url(url).deadline(Duration::from_millis(50));
    let limiter = RateLimiter::builder().redis(redis).build()?;
    let limit = RateLimitLayer::builder()
        .quota("10/10s".parse()?)
        .limiter(limiter.redis()) // the line that makes it one limit for all instances
        // While Redis is gone. The default; the others are `Reject` (503) and `Allow` (no limit).
        .on_store_error(OnStoreError::LocalShare)
        .headers(RateLimitHeaders::Draft8)
        .build()?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limit);

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: 10 requests in any 10 seconds from each client, on all instances together.");
    println!("Start another with PORT=3001, and try:");
    println!("  curl -i {url}   # `ratelimit` says what is left; on the other instance the same");
    println!(
        "  for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}} %{{time_total}}\\n' {url}; done   # 10 x 200"
    );
    println!("  redis-cli shutdown nosave   # and the line above again: each instance has its share, with two 5");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

//! Axum servers that share one limit, and hardly ever wait for Redis: 1000 requests in any 10 seconds from each
//! client, on all of them together.
//!
//! ```text
//! PORT=3000 cargo run --example axum_hybrid --features redis-tokio
//! PORT=3001 cargo run --example axum_hybrid --features redis-tokio    # in a second terminal
//! ```
//!
//! Each holds some units of a busy client in advance and gives back what it did not spend: Ctrl-C returns the rest at
//! once. `REDIS_URL` says where Redis is, by default at redis://127.0.0.1:6379. Stop it while the servers run, or
//! start them without it: they answer all the same, each within its share of the limit.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, routing::get};
use tower_weir::response::RateLimitHeaders;
use tower_weir::{RateLimitLayer, RateLimiter, SyncIntervalMs};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;

    let limiter = RateLimiter::builder()
        .redis_url(url)
        .sync_interval_ms(SyncIntervalMs::try_from(50)?) // the default
        .build()?;
    let limit = RateLimitLayer::builder()
        .quota("1000/10s".parse()?)
        .limiter(limiter.hybrid()) // the line that makes it one limit for all instances, decided in memory
        .headers(RateLimitHeaders::Draft8)
        .build()?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limit);

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: 1000 requests in any 10 seconds from each client, on all instances together.");
    println!("Start another with PORT=3001, and try:");
    println!(
        "  seq 1200 | xargs -P 8 -I_ curl -s -o /dev/null -w '%{{http_code}}\\n' {url} | sort | uniq -c   # 1000 x 200"
    );
    println!("  redis-cli info commandstats | grep evalsha   # how often Redis was asked for that");
    println!("Ctrl-C stops it, and gives back what it holds.");
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await?;
    limiter.hybrid().shutdown().await;
    Ok(())
}

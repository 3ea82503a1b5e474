//! An axum server with metrics for Prometheus. The folder `docs/grafana` has a dashboard and alert rules for them.
//!
//! ```text
//! cargo run --example observability --features metrics,redis-tokio
//! ```
//!
//! Four limits decide on each request: `client` through Redis, `strict` in shadow, `service`, which sheds an overload,
//! and `open`, which caps requests in flight. `download` meters the bytes of one route. `REDIS_URL` is the address of
//! Redis, by default redis://127.0.0.1:6379. Stop Redis while the server runs, and the metrics show the outage.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tower_weir::{ClientIp, Global, Limit, RateLimitLayer, RateLimiter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;

    let metrics = PrometheusBuilder::new()
        .with_recommended_naming(true) // `_total` and `_seconds`, as the dashboard expects
        .set_buckets_for_metric(
            Matcher::Full("rate_limit.store.duration".into()),
            &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25],
        )?
        .set_buckets_for_metric(
            Matcher::Full("rate_limit.suppression_factor".into()),
            &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        )?
        .install_recorder()?;

    // So few keys only show what happens when a limit has no room for more.
    let limiter = RateLimiter::builder().redis_url(url).max_keys(100).build()?;
    let client = || ClientIp::behind(["127.0.0.0/8"]); // curl plays the proxy
    let limit = RateLimitLayer::builder()
        .limit(Limit::per(client()?).quota("20/5s").name("client").limiter(limiter.hybrid()))
        .limit(Limit::per(client()?).quota("5/5s").name("strict").shadow())
        .limit(Limit::per(Global).quota("200/5s").name("service").suppressed(1.5))
        .limit(Limit::per(client()?).in_flight(50).name("open"))
        .limit(Limit::per(client()?).routes([("/download", "100000/5s")]).meter_bytes().name("download"))
        .limiter(limiter.local())
        .exempt_paths(["/metrics"])
        .build()?;
    let scrape = move || async move {
        metrics.run_upkeep();
        metrics.render()
    };
    let app = Router::new().route("/", get(|| async { "hello\n" })).route("/metrics", get(scrape));
    let app = app.route("/download", get(|| async { "x".repeat(60_000) })).layer(limit);

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("Listening on {url}: 20 requests in any 5 seconds from each client. Try:");
    println!("  seq 30 | xargs -I_ curl -s -o /dev/null {url}/                     # the last 10 are refused");
    println!("  seq 300 | xargs -I_ curl -s -o /dev/null -H 'X-Forwarded-For: 2001:db8:_::1' {url}/");
    println!("  for i in 1 2; do curl -sS -o /dev/null {url}/download; done     # the second response is cut");
    println!("  curl -s {url}/metrics | grep ^rate_limit");
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

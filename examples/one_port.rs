//! HTTP and gRPC on one port, and one budget for both: 5 requests in any 10 seconds from each client.
//!
//! ```text
//! cargo run --example one_port                 # or with a port of your own: PORT=8080 cargo run ...
//! curl -i http://127.0.0.1:3000/               # three times, and in the same 10 seconds:
//! PORT=3000 cargo run --example tonic --features tonic -- client   # 7 calls; two are left of the five
//! ```
//!
//! With two ports, give each server a clone of the layer: clones share their budgets.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, routing::get};
use tonic::service::Routes;
use tower_weir::RateLimitLayer;

/// The paths of a gRPC service begin with its name, so they stand beside those of HTTP. `Routes::from` and not
/// `Routes::new`, which would answer unknown paths in gRPC.
pub(crate) fn app(limit: RateLimitLayer) -> Router {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let http = Router::new().route("/", get(|| async { "hello\n" }));
    Routes::from(http).add_service(health).into_axum_router().layer(limit)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;

    let local = listener.local_addr()?;
    println!(
        "Listening on http://{local}/: 5 requests in any 10 seconds from each client. The first three times, then:"
    );
    println!("  curl -i http://{local}/");
    println!("  PORT={} cargo run --example tonic --features tonic -- client   # two are left", local.port());
    println!("Ctrl-C stops it.");

    let limit = RateLimitLayer::builder().quota("5/10s".parse()?).build()?;
    // `axum::serve` speaks HTTP/2, and so gRPC, with axum's feature `http2`.
    axum::serve(listener, app(limit).into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

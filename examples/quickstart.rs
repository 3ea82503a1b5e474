//! An axum server that allows each client 5 requests in any 10 seconds.
//!
//! ```text
//! cargo run --example quickstart            # or with a port of your own: PORT=8080 cargo run ...
//! for i in 1 2 3 4 5 6; do curl -i http://127.0.0.1:3000/; done    # the sixth gets 429 and a `retry-after`
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use axum::{Router, routing::get};
use tower_weir::RateLimitLayer;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    // The limit: by the address of the peer, in this process.
    let limit = RateLimitLayer::builder().quota("5/10s".parse()?).build()?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limit);

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let port = port.parse().map_err(|_| format!("PORT={port} is not a port; write 0 (any free one) to 65535"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try another port: PORT=3001"))?;

    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: 5 requests in any 10 seconds from each client. Try:");
    println!(
        "  for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{{http_code}}\\n' {url}; done   # the sixth gets 429"
    );
    println!("  curl -i {url}   # `retry-after` is the wait in seconds; after that wait, the response is 200");
    println!("Ctrl-C stops it.");

    // Without `into_make_service_with_connect_info` no handler, and no layer, learns the peer's address.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async {
            if tokio::signal::ctrl_c().await.is_err() {
                // No signal will ever come; run until killed.
                std::future::pending::<()>().await;
            }
        })
        .await?;
    println!("\nStopped.");
    Ok(())
}

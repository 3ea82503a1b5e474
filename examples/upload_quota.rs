//! Bytes of uploads: each client may send 200 000 bytes in any hour.
//!
//! ```text
//! cargo run --example upload_quota     # or with a port of your own: PORT=8080 cargo run ...
//! head -c 90000 /dev/zero > /tmp/upload
//! curl -s --data-binary @/tmp/upload http://127.0.0.1:3000/files/a    # 90000 bytes, as declared
//! curl -s -T - http://127.0.0.1:3000/files/b < /tmp/upload            # 90000 bytes, which were not declared
//! curl -si --data-binary @/tmp/upload http://127.0.0.1:3000/files/c   # 429: 20000 are left
//! ```
//!
//! An upload is charged the length that it declares, or else the largest length that the server accepts. When it is
//! read, it is charged what was received. So no client exceeds the quota, also not with uploads at the same time.

use std::net::{Ipv4Addr, SocketAddr};

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::{Extension, Router, routing::put};
use tower_weir::layer::RateLimitHandle;
use tower_weir::{ClientIp, ConfigError, Limit, RateLimitLayer};

/// The largest upload.
const MOST: usize = 100_000;

/// The bytes that the handler has received, for the function that settles the charge.
#[derive(Clone, Copy)]
struct Received(u64);

fn app() -> Result<Router, ConfigError> {
    let limit = Limit::per(ClientIp::peer())
        .quota("200000/h")
        .name("bytes")
        .cost(|req| req.content_length().unwrap_or(MOST as u64))
        .settle(|charge, response| {
            // Without this value, the upload was not stored. Its bytes were sent nevertheless, so the charge stays.
            if let Some(Received(bytes)) = response.extensions().get() {
                charge.set(*bytes);
            }
        });
    let layer = RateLimitLayer::builder().limit(limit).handle(true).build()?;
    let files = Router::new().route("/files/{name}", put(store).post(store));
    Ok(files.layer(DefaultBodyLimit::max(MOST)).layer(layer))
}

async fn store(limits: RateLimitHandle, upload: Bytes) -> (StatusCode, Extension<Received>, String) {
    let received = upload.len() as u64;
    // `remaining` is what was left when the request began, and includes its charge.
    let left = limits.remaining("bytes").unwrap_or_default();
    let text = format!("{received} bytes stored; at least {left} are left\n");
    (StatusCode::CREATED, Extension(Received(received)), text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/files", listener.local_addr()?);
    println!("Listening on {url}. 200 000 bytes in any hour for each client. Try with a file of 90 000 bytes:");
    println!("  curl -s --data-binary @upload {url}/a");
    println!("  curl -s -T - {url}/b < upload             # without a length");
    println!("  curl -si --data-binary @upload {url}/c    # it is refused");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app()?.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

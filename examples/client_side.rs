//! A limit on outgoing requests: a client that stays below its own limit, and waits when a server asks for it.
//!
//! ```text
//! cargo run --example client_side
//! ```
//!
//! The server of this program admits 4 requests in any second, which the client does not know. The client sends at most
//! 20 in a second. It heeds the `Retry-After` of the server, so few of its requests are refused.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_weir::{Global, RateLimitLayer};

/// Starts the server, and returns its URL.
async fn start_server() -> Result<String, Box<dyn std::error::Error>> {
    let limit = RateLimitLayer::builder().quota("4/s".parse()?).key(Global).build()?;
    let app = Router::new().route("/", get(|| async { "done" })).layer(limit);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = start_server().await?;
    let limit = RateLimitLayer::outgoing("20/s").wait_at_most(Duration::from_secs(10)).heed_retry_after().build()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut client = ServiceBuilder::new().layer(limit).service(client);

    let (began, mut sent) = (Instant::now(), 0);
    for job in 1..=12 {
        loop {
            sent += 1;
            let request = Request::get(&url).body(Empty::new())?;
            let status = client.ready().await?.call(request).await?.status();
            println!("{:4.1} s: job {job}: {status}", began.elapsed().as_secs_f64());
            if status != StatusCode::TOO_MANY_REQUESTS {
                break;
            }
            // The layer holds the next request back for as long as the server asked, so there is nothing to wait for.
        }
    }
    println!("12 jobs took {sent} requests");
    Ok(())
}

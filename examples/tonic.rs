//! A gRPC server that allows each client 5 calls in any 10 seconds, and a client to try it with.
//!
//! ```text
//! cargo run --example tonic --features tonic             # the server; PORT=... for another port
//! cargo run --example tonic --features tonic -- client   # in a second terminal: 7 calls
//! ```
//!
//! The service is gRPC's own health check, so no code has to be generated. curl shows the bare answer:
//!
//! ```text
//! printf '\0\0\0\0\0' | curl -i --http2-prior-knowledge --data-binary @- -o - \
//!     -H 'content-type: application/grpc' http://127.0.0.1:50051/grpc.health.v1.Health/Check
//! ```

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_weir::RateLimitLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(50051), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match std::env::args().nth(1).as_deref() {
        None => serve(address).await,
        Some("client") => call(address).await,
        Some(other) => Err(format!("{other:?} is not known; write `client`, or nothing for the server").into()),
    }
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let limit = RateLimitLayer::builder().quota("5/10s".parse()?).build()?;
    let (_reporter, health) = tonic_health::server::health_reporter();

    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=50052"))?;
    println!("Listening on {}: 5 calls in any 10 seconds from each client. Try:", listener.local_addr()?);
    println!("  cargo run --example tonic --features tonic -- client   # with the same PORT, if you set one");
    println!("Ctrl-C stops it.");

    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    Server::builder()
        .layer(limit)
        .add_service(health)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop)
        .await?;
    Ok(())
}

async fn call(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let channel = Channel::from_shared(format!("http://{address}"))?
        .connect()
        .await
        .map_err(|_| format!("no server on {address}; start one: cargo run --example tonic --features tonic"))?;
    let mut client = HealthClient::new(channel);
    for nth in 1..=7 {
        match client.check(HealthCheckRequest::default()).await {
            Ok(reply) => println!("call {nth}: ok, {:?}", reply.get_ref().status()),
            Err(status) => {
                let wait = status.metadata().get("retry-after").and_then(|wait| wait.to_str().ok());
                let wait = wait.map_or(String::new(), |wait| format!(", retry-after {wait} s"));
                println!("call {nth}: {:?} ({}){wait}", status.code(), status.message());
            }
        }
    }
    Ok(())
}

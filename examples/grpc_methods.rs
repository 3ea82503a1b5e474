//! A gRPC server with quotas by method and by tenant, and a client to try it with.
//!
//! ```text
//! cargo run --example grpc_methods --features tonic                  # the server; PORT=... for another port
//! cargo run --example grpc_methods --features tonic -- client acme   # in a second terminal: 5 calls of two methods
//! ```
//!
//! Each tenant has 3 calls of `Check` and one of `Watch` in any 10 seconds, and all tenants together have 100. The
//! service is gRPC's own health check, so no code has to be generated.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_weir::key::Header;
use tower_weir::{ConfigError, Global, Limit, RateLimitLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(50051), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match std::env::args().nth(1).as_deref() {
        None => serve(address).await,
        Some("client") => call(address, &std::env::args().nth(2).unwrap_or_else(|| "acme".into())).await,
        Some(other) => Err(format!("{other:?} is not known; write `client TENANT`, or nothing for the server").into()),
    }
}

fn layer() -> Result<RateLimitLayer, ConfigError> {
    let methods = [("/grpc.health.v1.Health/Check", "3/10s"), ("/grpc.health.v1.Health/Watch", "1/10s")];
    RateLimitLayer::builder()
        // Metadata are headers. A layer outside this one must check that the client belongs to the tenant.
        .limit(Limit::per(Header::new("x-tenant")).routes(methods).name("method"))
        .limit(Limit::per(Global).quota("100/10s").name("service"))
        .build()
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=50052"))?;
    println!("Listening on {}: 3 calls of Check and one of Watch in any 10 seconds.", listener.local_addr()?);
    println!(
        "  cargo run --example grpc_methods --features tonic -- client acme   # with the same PORT, if you set one"
    );
    println!("Ctrl-C stops it.");
    Server::builder().layer(layer()?).add_service(health).serve_with_incoming(TcpIncoming::from(listener)).await?;
    Ok(())
}

async fn call(address: SocketAddr, tenant: &str) -> Result<(), Box<dyn Error>> {
    let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
    let tenant: MetadataValue<Ascii> = tenant.parse()?;
    let mut client = HealthClient::with_interceptor(channel, move |mut request: Request<()>| {
        request.metadata_mut().insert("x-tenant", tenant.clone());
        Ok(request)
    });
    for _ in 0..5 {
        print("Check", client.check(HealthCheckRequest::default()).await);
        print("Watch", client.watch(HealthCheckRequest::default()).await);
    }
    Ok(())
}

fn print<T>(method: &str, result: Result<T, Status>) {
    match result {
        Ok(_) => println!("{method}: ok"),
        Err(status) => {
            let wait = status.metadata().get("retry-after").and_then(|wait| wait.to_str().ok());
            let wait = wait.map_or(String::new(), |wait| format!(", retry-after {wait} s"));
            println!("{method}: {:?} ({}){wait}", status.code(), status.message());
        }
    }
}

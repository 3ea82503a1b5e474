//! The layer behind real proxies. `tests/run.sh` installs them and runs these tests, one proxy at a time.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

mod addresses;
mod programs;
mod uploads;

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

pub(crate) use self::programs::Proxy;

/// Serves a router on a free port, with the peer's address in each request.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// The blocks of an nginx that passes everything on to some servers.
fn pass_to(port: u16, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|server| format!("server {server};")).collect();
    format!(
        "upstream service {{ {servers} }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://service; }} }}"
    )
}

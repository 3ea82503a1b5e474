//! Logins: only failed ones count, for each account and each address. A success clears the account, and an address that
//! continues to guess is locked out.
//!
//! ```text
//! cargo run --example login     # or with a port of your own: PORT=8080 cargo run ...
//! for i in $(seq 3); do curl -s -d guess http://127.0.0.1:3000/login/ann; done   # three failures
//! curl -si -d secret http://127.0.0.1:3000/login/ann                             # 429 with the right password, too
//! for i in $(seq 9); do curl -s -d secret http://127.0.0.1:3000/login/bob; done  # successes do not count
//! ```
//!
//! A login counts as a failure until its response is known. So no more guesses run at once than the limit admits.

use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::Path;
use axum::http::StatusCode;
use axum::{Router, routing::post};
use tower_weir::key::{MissingKey, RequestView};
use tower_weir::layer::{Charge, RateLimitHandle, ResponseView};
use tower_weir::{ClientIp, ConfigError, Limit, RateLimitLayer};

/// The account in the path `/login/{account}`.
fn account(request: &RequestView<'_>) -> Result<String, MissingKey> {
    let account = request.uri().path().strip_prefix("/login/");
    account.map(str::to_owned).ok_or(MissingKey::server_fault("the layer is not around the route of logins"))
}

fn only_failures(charge: &mut Charge, response: &ResponseView<'_>) {
    if response.status() != StatusCode::UNAUTHORIZED {
        charge.refund();
    }
}

fn app() -> Result<Router, ConfigError> {
    let layer = RateLimitLayer::builder()
        .limit(Limit::per_fn(account).quota("3/15min").name("account"))
        .limit(Limit::per(ClientIp::peer()).quota("10/15min").name("address").ban("2 in 15min for 1h"))
        .settle(only_failures)
        .handle(true) // so that a success can clear the account
        .build()?;
    Ok(Router::new().route("/login/{account}", post(login).layer(layer)))
}

async fn login(limits: RateLimitHandle, Path(account): Path<String>, password: String) -> (StatusCode, String) {
    // Stands for a real check.
    if password != "secret" {
        return (StatusCode::UNAUTHORIZED, "wrong password\n".to_owned());
    }
    if let Err(error) = limits.reset("account").await {
        eprintln!("the failures of an account are not cleared: {error}");
    }
    (StatusCode::OK, format!("welcome, {account}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/login", listener.local_addr()?);
    println!("Listening on {url}. In any 15 minutes: 3 failures for an account, and 10 for an address. Try:");
    println!("  curl -s -d guess {url}/ann     # three times, and then");
    println!("  curl -si -d secret {url}/ann   # it is refused");
    println!("  curl -s -d secret {url}/bob    # as often as you like");
    println!("Ctrl-C stops it.");
    axum::serve(listener, app()?.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

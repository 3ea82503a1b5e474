//! A policy in a file that you can change while the server runs.
//!
//! ```text
//! cargo run --example policy_file --features serde    # or with a file of your own: .. --features serde -- policy.toml
//! for i in 1 2 3 4; do curl -i -H 'x-client: ann' http://127.0.0.1:3000/; done    # the fourth gets 429
//! sed -i 's:3/10s:6/10s:' examples/policy.toml      # ann has more at once; the requests in use still count
//! sed -i 's:6/10s:often:' examples/policy.toml      # the server prints the line of the mistake, and changes nothing
//! ```
//!
//! At the start and after each change, the server prints the table of the policy, which you can review and sign.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::{Router, routing::any};
use tower_weir::layer::Control;
use tower_weir::{RateLimitConfig, RateLimitLayer};

/// Looks at the file four times in a second.
async fn reload(path: String, mut text: String, layer: RateLimitLayer) {
    let control = layer.control();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let Ok(changed) = std::fs::read_to_string(&path) else { continue };
        if changed == text {
            continue;
        }
        match replace(&control, &changed) {
            Ok(()) => println!("{path}: new policy\n\n{layer}"),
            Err(error) => println!("{path}: {error}\nThe old policy stays."),
        }
        text = changed;
    }
}

/// Replaces the policy in one step. Limits with the same name keep their counts.
fn replace(control: &Control, text: &str) -> Result<(), Box<dyn Error>> {
    Ok(control.reload(toml::from_str(text)?)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "examples/policy.toml".into());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let config: RateLimitConfig = toml::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let layer = RateLimitLayer::from_config(config)?;
    tokio::spawn(reload(path.clone(), text, layer.clone()));

    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url} with the policy in {path}:\n\n{layer}");
    println!("Four times each:");
    println!("  curl -i -H 'x-client: ann' {url}                 # 3 in any 10 seconds");
    println!("  curl -i -H 'x-client: ann' -X POST {url}login    # 1 in any 10 seconds");
    println!("  curl -i {url}health                              # exempt");
    println!("Change {path} while the server runs. Ctrl-C stops it.");
    let app = Router::new().fallback(any(|| async { "hello\n" })).layer(layer);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

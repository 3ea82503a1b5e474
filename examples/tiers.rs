//! Customers with plans, in a file that you can change while the server runs.
//!
//! ```text
//! cargo run --example tiers                 # or with a file of your own: cargo run --example tiers -- plans.json
//! for i in 1 2 3 4; do curl -i -H 'x-api-key: ann-secret' http://127.0.0.1:3000/; done    # free: the fourth gets 429
//! for i in 1 2 3 4; do curl -i -H 'x-api-key: bob-secret' http://127.0.0.1:3000/; done    # pro: four times 200
//! sed -i 's:3/10s:6/10s:' examples/plans.json    # ann has more at once; the requests in use still count
//! ```
//!
//! A mistake in the file is reported, and the old plans stay.

use std::collections::HashMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Router, routing::get};
use serde_json::Value;
use tower_weir::key::{Extension, Key, KeyWriter};
use tower_weir::{Limit, Quota, Quotas, RateLimitLayer};

/// The key is the customer and not the API key, so a customer with a new API key has no new budget.
#[derive(Clone)]
struct Customer {
    id: u64,
    quotas: Quotas,
}

impl Key for Customer {
    fn write_to(&self, out: &mut KeyWriter) {
        out.write(&self.id);
    }
}

/// The customers by API key.
type Customers = Arc<RwLock<HashMap<String, Customer>>>;

fn app(customers: &Customers) -> Result<Router, tower_weir::ConfigError> {
    let limit = Limit::per(Extension::<Customer>::new()).quota_for(|it: &Customer| it.quotas.clone()).name("plan");
    let layer = RateLimitLayer::builder().limit(limit).build()?;
    Ok(Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(layer) // inside the authentication, which knows the customer
        .layer(from_fn_with_state(Arc::clone(customers), authenticate)))
}

async fn authenticate(State(all): State<Customers>, mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let api_key = request.headers().get("x-api-key").and_then(|it| it.to_str().ok()).unwrap_or_default();
    let customer = all.read().unwrap_or_else(PoisonError::into_inner).get(api_key).cloned();
    request.extensions_mut().insert(customer.ok_or(StatusCode::UNAUTHORIZED)?);
    Ok(next.run(request).await)
}

/// Reads the text of the file. Every plan and every customer must be right.
fn parse(text: &str) -> Result<HashMap<String, Customer>, Box<dyn Error>> {
    let file: Value = serde_json::from_str(text)?;
    let customers = file["customers"].as_array().ok_or("`customers` is not a list")?;
    let customer = |it: &Value| {
        let plan = it["plan"].as_str().ok_or("a customer has no plan")?;
        let (id, key) = (it["id"].as_u64(), it["api_key"].as_str());
        let (id, key) = id.zip(key).ok_or("a customer has no id or no API key")?;
        let quotas = quotas(&file["plans"][plan]).map_err(|error| format!("plan {plan:?}: {error}"))?;
        Ok((key.to_owned(), Customer { id, quotas }))
    };
    customers.iter().map(customer).collect()
}

fn quotas(plan: &Value) -> Result<Quotas, Box<dyn Error>> {
    match plan {
        Value::String(word) if word == "unlimited" => Ok(Quotas::UNLIMITED),
        Value::String(word) if word == "blocked" => Ok(Quotas::BLOCKED),
        Value::Array(texts) if !texts.is_empty() => {
            let texts = texts.iter().map(|text| text.as_str().ok_or("a quota is not a text"));
            let quotas = texts.map(|text| Ok(text?.parse()?)).collect::<Result<Vec<Quota>, Box<dyn Error>>>()?;
            Ok(quotas.into())
        }
        _ => Err("write a list of quotas, \"unlimited\" or \"blocked\"".into()),
    }
}

/// Looks at the file four times in a second.
async fn reload(path: String, mut text: String, customers: Customers) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let Ok(changed) = std::fs::read_to_string(&path) else { continue };
        if changed == text {
            continue;
        }
        match parse(&changed) {
            Ok(parsed) => {
                *customers.write().unwrap_or_else(PoisonError::into_inner) = parsed;
                println!("{path}: new plans");
            }
            Err(error) => println!("{path}: {error}; the old plans stay"),
        }
        text = changed;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "examples/plans.json".into());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let customers = Customers::new(RwLock::new(parse(&text)?));
    tokio::spawn(reload(path.clone(), text, Arc::clone(&customers)));

    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    println!("Listening on {url}: the plans are in {path}. Four times each:");
    println!("  curl -i -H 'x-api-key: ann-secret' {url}   # free: 3 in any 10 seconds");
    println!("  curl -i -H 'x-api-key: bob-secret' {url}   # pro: 20 in any 10 seconds and 100 in any minute");
    println!("  curl -i -H 'x-api-key: eve-secret' {url}   # suspended: 429 without `retry-after`, as no wait helps");
    println!("Change {path} while the server runs. Ctrl-C stops it.");
    axum::serve(listener, app(&customers)?).await?;
    Ok(())
}

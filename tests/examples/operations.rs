//! The example with a listener for operators.

use std::time::Duration;

use serde_json::{Value, json};

use crate::programs::Server;

#[tokio::test]
async fn operators_see_who_is_limited_and_act_on_it() {
    let server = Server::start_with("operations", &[], &[("ADMIN_TOKEN", "letmein")]);
    let operators =
        server.line_with("Operators: ").split_once("http://").unwrap().1.split_once('/').unwrap().0.to_owned();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let ask = async |tenant: &str| {
        let request = client.get(format!("http://{}/", server.address)).header("x-tenant", tenant);
        request.send().await.unwrap().status().as_u16()
    };
    let operate = async |request: reqwest::RequestBuilder| {
        let response = request.header("authorization", "Bearer letmein").send().await.unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap()
    };
    let post = async |path: &str, body: Value| {
        let request = client.post(format!("http://{operators}/limits/tenant/{path}"));
        operate(request.header("content-type", "application/json").body(body.to_string())).await
    };
    assert_eq!([ask("acme").await, ask("acme").await, ask("acme").await, ask("acme").await], [200, 200, 200, 429]);

    let url = format!("http://{operators}/limits/tenant/top?by=refusals");
    for token in [None, Some("Bearer letmeix"), Some("Bearer letmein2"), Some("Basic letmein")] {
        let request = token.iter().fold(client.get(&url), |request, token| request.header("authorization", *token));
        assert_eq!(request.send().await.unwrap().status(), 401, "{token:?}");
    }
    let top = operate(client.get(&url)).await;
    let acme = &top["keys"][0];
    let counts = [("requests", 4), ("refusals", 1)].map(|(of, count)| (acme[of]["at_most"].as_u64(), Some(count)));
    assert_eq!((&acme["key"], counts.map(|(seen, want)| seen == want)), (&json!("acme"), [true; 2]), "{top}");

    assert_eq!(post("reset", json!({"id": acme["id"]})).await["before"]["used"], 3);
    assert_eq!(ask("acme").await, 200);
    post("block", json!({"key": "acme", "seconds": 60})).await;
    assert_eq!((ask("acme").await, ask("zeta").await), (429, 200));
    assert!(post("unblock", json!({"key": "acme"})).await["before"]["blocked_seconds"].as_u64() > Some(50));
    assert_eq!(ask("acme").await, 200);
}

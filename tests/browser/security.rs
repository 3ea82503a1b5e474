//! The page loads nothing from elsewhere, and the page of another site cannot steer it.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};

use crate::driver::Browser;
use crate::playground::Playground;

/// The addresses that the browser asked for since the last call.
fn requests(browser: &Browser) -> Vec<String> {
    let messages = browser.log("performance").into_iter().filter_map(|entry| {
        let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
        (message["message"]["method"] == "Network.requestWillBeSent")
            .then(|| message["message"]["params"]["request"]["url"].clone())
    });
    messages.filter_map(|url| url.as_str().map(str::to_owned)).collect()
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_page_has_no_errors_and_asks_no_other_host() {
    let playground = Playground::open();
    let browser = &playground.browser;
    browser.click("#send");
    playground.wait_for_number("#absolute-most", |most| most > 0.0);
    let own = format!("http://{}/", playground.server.address);
    let asked = requests(browser);
    assert!(asked.iter().any(|url| *url == format!("{own}events")), "{asked:?}");
    // Before the first page, the browser shows an empty one of its own.
    let foreign: Vec<_> = asked.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(browser.log("browser"), Vec::<Value>::new());
    // The policy of the page forbids what its files do not contain.
    let load = "return new Promise((resolve) => {
        const image = document.createElement('img');
        image.onload = () => resolve('loaded');
        document.addEventListener('securitypolicyviolation', () => resolve('refused by the policy'));
        image.src = arguments[0];
    })";
    let elsewhere = own.replace("127.0.0.1", "localhost");
    assert_eq!(browser.run(load, &json!([format!("{elsewhere}icon.svg")])), "refused by the policy");
    assert_eq!(browser.run(load, &json!(["icon.svg"])), "loaded");
}

/// Starts another site on a port of its own, until the end of the test process.
fn other_site() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = Router::new().route("/", get(async || Html("<!doctype html><title>another site</title>")));
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await.unwrap();
        });
    });
    format!("http://{address}/")
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_page_of_another_site_cannot_steer_or_read_the_playground() {
    let playground = Playground::open();
    let browser = &playground.browser;
    let target = format!("http://{}/", playground.server.address);
    browser.go_to(&other_site());
    let post = "const [url, type, mode] = arguments;
        return fetch(url, { method: 'POST', mode, headers: { 'content-type': type }, body: JSON.stringify({ limit: 77 }) })
            .then((response) => response.type, () => 'refused')";
    for path in ["settings", "redis"] {
        let url = format!("{target}{path}");
        assert_eq!(browser.run(post, &json!([url, "application/json", "cors"])), "refused");
        // The browser sends this one without a question, and hides the response.
        let sent = browser.run(post, &json!([url, "text/plain", "no-cors"]));
        assert!(["opaque", "refused"].contains(&sent.as_str().unwrap()), "{sent}");
    }
    let stream = "return new Promise((resolve) => {
        const events = new EventSource(arguments[0]);
        events.onmessage = () => resolve('read');
        events.onerror = () => { events.close(); resolve('refused'); };
    })";
    assert_eq!(browser.run(stream, &json!([format!("{target}events")])), "refused");
    browser.log("browser");
    let frame = "return new Promise((resolve) => {
        const frame = document.createElement('iframe');
        frame.onload = resolve;
        frame.src = arguments[0];
        document.body.append(frame);
    })";
    browser.run(frame, &json!([target]));
    let log = json!(browser.log("browser")).to_string();
    assert!(log.contains("frame-ancestors"), "{log}");
    browser.go_to(&target);
    browser.wait_for_text("#absolute-used", |text| text.ends_with(" of 200"));
    assert_eq!(browser.text("#limit-out"), "200 units");
    assert_eq!(browser.text("#redis-state"), "Redis runs");
}

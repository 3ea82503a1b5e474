//! The gateway to a language model: its answers, its limits, and their forms for clients of OpenAI.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::programs::Server;
use crate::support::servers::{Flavor, Server as Redis};

/// The tokens of this prompt are 5.
const PROMPT: &str = "Tell me a story.";

struct Gateway {
    client: reqwest::Client,
    server: Server,
}

/// A whole response.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The status, and the type and the code of the error.
    fn error(&self) -> (u16, String, String) {
        let error = &self.json()["error"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (self.status, text("type"), text("code"))
    }

    fn remaining(&self, name: &str) -> u64 {
        self.header(&format!("x-ratelimit-remaining-{name}")).parse().unwrap()
    }

    /// The data of the events.
    fn events(&self) -> Vec<&str> {
        self.body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect()
    }
}

fn chat(stream: bool, max_tokens: Option<u64>) -> String {
    let mut chat = json!({ "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] });
    if let Some(most) = max_tokens {
        chat["max_tokens"] = most.into();
    }
    chat.to_string()
}

impl Gateway {
    /// Its window of tokens is long, so that no token leaves it during a test.
    fn start(tokens: &str) -> Self {
        Self::start_with(&[("TOKENS", tokens)])
    }

    fn start_with(variables: &[(&str, &str)]) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { client, server: Server::start_with("llm_gateway", &[], variables) }
    }

    fn request(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}/v1/chat/completions", self.server.address)).body(body)
    }

    async fn send(&self, key: &str, body: impl Into<reqwest::Body>) -> Seen {
        Self::receive(self.request(body).bearer_auth(key)).await
    }

    async fn receive(request: reqwest::RequestBuilder) -> Seen {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Seen { status, headers, body: response.text().await.unwrap() }
    }
}

#[tokio::test]
async fn answers_are_charged_their_tokens_and_state_the_limits() {
    let gateway = Gateway::start("100000/2h");
    let seen = gateway.send("ann", chat(false, Some(20))).await;
    assert_eq!((seen.status, &seen.json()["usage"]["total_tokens"]), (200, &json!(25)), "{seen:?}");
    for (field, want) in [
        ("limit-requests", "60"),
        ("remaining-requests", "59"),
        ("reset-requests", "1m1s"),
        ("limit-tokens", "100000"),
        ("remaining-tokens", "99975"),
        ("reset-tokens", "120m1s"),
    ] {
        assert_eq!(seen.header(&format!("x-ratelimit-{field}")), want, "{field}");
    }

    // Without a maximum, 100 tokens are reserved, and 300 are sent.
    let seen = gateway.send("ann", chat(true, None)).await;
    assert_eq!((seen.status, seen.remaining("tokens")), (200, 99_975 - 105));
    let events = seen.events();
    assert_eq!((events.len(), events[301]), (302, "[DONE]"), "{events:?}");
    // All that was reserved and not used is free again.
    let seen = gateway.send("ann", chat(true, Some(1_000))).await;
    assert_eq!((seen.events().len(), seen.remaining("tokens")), (302, 99_975 - 305 - 1_005));
    let seen = gateway.send("ann", chat(false, Some(0))).await;
    assert_eq!(seen.remaining("tokens"), 99_975 - 305 - 305 - 5);
    assert_eq!(gateway.send("bob", chat(false, Some(0))).await.remaining("tokens"), 99_995);
}

#[tokio::test]
async fn a_stream_ends_with_an_error_event_at_the_limit() {
    let gateway = Gateway::start("200/2h");
    let seen = gateway.send("ann", chat(true, None)).await;
    let events = seen.events();
    // The prompt, 195 tokens, and the error.
    assert_eq!((seen.status, events.len()), (200, 197));
    let last: Value = serde_json::from_str(events[196]).unwrap();
    assert_eq!(last["error"]["code"], "rate_limit_exceeded");

    let seen = gateway.send("ann", chat(true, Some(20))).await;
    assert_eq!(seen.error(), (429, "tokens".into(), "rate_limit_exceeded".into()));
    let wait: u64 = seen.header("retry-after").parse().unwrap();
    assert!((7_000..=7_201).contains(&wait), "{wait}");
    assert_eq!((seen.header("content-type"), seen.remaining("tokens")), ("application/json", 0));
    assert_eq!(gateway.send("bob", chat(true, Some(20))).await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_pays_what_was_sent() {
    let gateway = Gateway::start("1000/2h");
    let mut response = gateway.request(chat(true, Some(900))).bearer_auth("ann").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    while text.matches("content").count() < 3 {
        text += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    drop(response);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = gateway.send("ann", chat(false, Some(1))).await;
        if seen.status == 200 && seen.remaining("tokens") > 300 {
            return;
        }
    }
    panic!("the reservation of 905 tokens is not free");
}

#[tokio::test]
async fn refusals_have_the_form_of_openai() {
    let gateway = Gateway::start("100000/2h");
    let seen = gateway.send("ann", chat(false, Some(200_000))).await;
    assert_eq!(seen.error(), (429, "tokens".into(), "rate_limit_exceeded".into()));
    assert_eq!(seen.header("retry-after"), "", "no wait helps");
    let seen = Gateway::receive(gateway.request(chat(false, None))).await;
    assert_eq!(seen.error(), (401, "invalid_request_error".into(), "invalid_api_key".into()));
    let seen = gateway.send("ann", "{").await;
    assert_eq!(seen.error(), (400, "invalid_request_error".into(), "invalid_json".into()));

    // On a machine that is so slow that a minute passes meanwhile, it takes a few more.
    for sent in 0..600 {
        let seen = gateway.send("bob", chat(false, Some(0))).await;
        if seen.status == 429 {
            assert!(sent >= 60, "{sent} requests of 60");
            assert_eq!(seen.error(), (429, "requests".into(), "rate_limit_exceeded".into()));
            assert!(seen.header("x-ratelimit-reset-requests").ends_with('s'));
            return;
        }
    }
    panic!("600 requests were admitted");
}

#[tokio::test]
async fn gateways_share_the_limits_through_redis() {
    let redis = Redis::start(Flavor::Debian);
    let url = redis.url();
    let [one, two] = [(); 2].map(|()| Gateway::start_with(&[("TOKENS", "200/2h"), ("REDIS_URL", &url)]));
    assert_eq!(one.send("ann", chat(true, Some(95))).await.events().len(), 97);
    // On a busy machine, a decision may be late, and is then made by the share of an instance.
    for _ in 0..50 {
        let seen = two.send("ann", chat(false, Some(0))).await;
        if seen.status == 200 && seen.header("x-ratelimit-limit-tokens") == "200" {
            assert!(seen.remaining("tokens") <= 95, "{seen:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Redis decided on no request");
}

//! A gateway to a language model, with the limits that clients of OpenAI know: each API key has 60 requests and 100 000
//! tokens in any minute.
//!
//! ```text
//! cargo run --example llm_gateway --features redis-tokio     # or with a port of your own: PORT=8080 cargo run ...
//! url=http://127.0.0.1:3000/v1/chat/completions
//! curl -si $url -H 'Authorization: Bearer ann' -d '{"max_tokens": 5, "messages": [{"content": "Tell me a story."}]}'
//! curl -sN $url -H 'Authorization: Bearer ann' -d '{"stream": true, "messages": [{"content": "Tell me a story."}]}'
//! curl -si $url -H 'Authorization: Bearer ann' -d '{"max_tokens": 200000, "messages": [{"content": "Hi"}]}'   # 429
//! ```
//!
//! A request reserves the tokens of its prompt and of its longest answer. The answer is charged token by token.
//! The rest of the reservation returns when the answer ends, or when the client hangs up. Without `max_tokens`, 100 tokens are reserved for
//! the answer. A longer answer asks the limit for each token, and ends with an error event if there are no more.
//!
//! `TOKENS` changes the quota of tokens, such as `TOKENS=200/min`. With `REDIS_URL`, all gateways share the limits.

use std::convert::Infallible;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router, routing::post};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tower_weir::key::Header;
use tower_weir::layer::{AtLimit, RateLimitHandle};
use tower_weir::response::{RefusalContext, RefusalReason};
use tower_weir::{ConfigError, Decision, Limit, RateLimitLayer, RateLimiter};

/// The largest body of a request.
const MOST_BYTES: usize = 1 << 20;
/// The tokens of an answer that are reserved if the request does not state a maximum.
const ANSWER: u64 = 100;
/// The last event of a stream that the limit ends. Clients of OpenAI raise it as an error.
const CUT: &str = concat!(
    r#"data: {"error":{"message":"Rate limit reached for tokens","type":"tokens","param":null,"#,
    r#""code":"rate_limit_exceeded"}}"#,
    "\n\n"
);

/// What the gateway reads from a request before it is limited.
#[derive(Clone, Copy)]
struct Chat {
    prompt_tokens: u64,
    max_tokens: Option<u64>,
    stream: bool,
}

impl Chat {
    fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let texts = body["messages"].as_array()?.iter().filter_map(|message| message["content"].as_str());
        // A real gateway uses the tokenizer of the model.
        let prompt_tokens = texts.map(|text| text.len() as u64 / 4 + 1).sum();
        let stream = body["stream"].as_bool().unwrap_or(false);
        Some(Self { prompt_tokens, max_tokens: body["max_tokens"].as_u64(), stream })
    }

    /// The tokens to reserve.
    fn estimate(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.max_tokens.unwrap_or(ANSWER))
    }
}

/// The tokens of a frame: an event of a stream, or a whole answer.
fn tokens_of(frame: &Bytes) -> u64 {
    let json = frame.strip_prefix(b"data: ").unwrap_or(frame);
    let Ok(chunk) = serde_json::from_slice::<Value>(json) else { return 0 };
    // The first event and a whole answer state their tokens. The model sends each other token in an event of its own.
    let is_token = chunk["choices"][0]["delta"]["content"].is_string();
    chunk["usage"]["total_tokens"].as_u64().unwrap_or(u64::from(is_token))
}

fn layer(limiter: &RateLimiter, tokens_quota: &str, is_shared: bool) -> Result<RateLimitLayer, ConfigError> {
    let api_key = || Header::new("authorization").hashed();
    let requests = Limit::per(api_key()).quota("60/min").name("requests");
    let tokens = Limit::per(api_key())
        .quota(tokens_quota)
        .name("tokens")
        .cost(|req| req.extensions().get::<Chat>().map_or(1, Chat::estimate))
        .meter(tokens_of)
        .at_limit(AtLimit::end_with(CUT));
    let layer = RateLimitLayer::builder().limit(requests).limit(tokens).handle(true).on_refusal(refusal);
    match is_shared {
        true => layer.limiter(limiter.hybrid()).build(),
        false => layer.limiter(limiter.local()).build(),
    }
}

fn error(status: StatusCode, kind: &str, code: &str, message: &str) -> (StatusCode, Value) {
    (status, json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}

/// A refusal in the form of OpenAI's errors. The layer adds `Retry-After`.
fn refusal(refusal: &RefusalContext<'_>) -> axum::http::Response<Bytes> {
    let name = refusal.policy().name();
    let (status, body) = match refusal.reason() {
        RefusalReason::MissingKey => {
            error(StatusCode::UNAUTHORIZED, "invalid_request_error", "invalid_api_key", "You sent no API key.")
        }
        RefusalReason::StoreUnavailable => {
            error(StatusCode::SERVICE_UNAVAILABLE, "server_error", "unavailable", "Try again later.")
        }
        reason => {
            let hint = if reason == RefusalReason::ExceedsLimit { "too large" } else { "too many; try again later" };
            let message = format!("Rate limit reached for {name}: {hint}.");
            error(StatusCode::TOO_MANY_REQUESTS, name, "rate_limit_exceeded", &message)
        }
    };
    let mut response = refusal.response().clone();
    *response.status_mut() = status;
    *response.body_mut() = body.to_string().into();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (policy, decision) in refusal.decisions() {
        add_headers(response.headers_mut(), policy.name(), decision);
    }
    response
}

/// The header fields that clients of OpenAI read.
fn add_headers(headers: &mut HeaderMap, name: &str, decision: &Decision) {
    let mut add = |field: &str, value: String| {
        let field = HeaderName::try_from(format!("x-ratelimit-{field}-{name}"));
        if let (Ok(field), Ok(value)) = (field, HeaderValue::try_from(value)) {
            headers.insert(field, value);
        }
    };
    add("limit", decision.limit().to_string());
    add("remaining", decision.remaining().to_string());
    add("reset", short(decision.reset_after()));
}

/// A time such as `1s` or `6m0s`, rounded up to seconds.
fn short(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000);
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

/// Reads the request around the limits, because the cost depends on its body.
async fn read_chat(mut request: Request, next: Next) -> Response {
    let body = to_bytes(std::mem::take(request.body_mut()), MOST_BYTES).await;
    let Some(chat) = body.ok().and_then(|body| Chat::parse(&body)) else {
        let message = "Send a JSON object with messages.";
        let (status, body) = error(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_json", message);
        return (status, Json(body)).into_response();
    };
    request.extensions_mut().insert(chat);
    next.run(request).await
}

/// Adds the header fields to the response to an admitted request.
async fn with_headers(limits: RateLimitHandle, request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    for name in ["requests", "tokens"] {
        if let Some(decision) = limits.decision(name) {
            add_headers(response.headers_mut(), name, decision);
        }
    }
    response
}

async fn completions(Extension(chat): Extension<Chat>) -> Response {
    let prompt = chat.prompt_tokens;
    if chat.stream {
        let first = json!({
            "object": "chat.completion.chunk",
            "choices": [{ "index": 0, "delta": { "role": "assistant" } }],
            "usage": { "prompt_tokens": prompt, "total_tokens": prompt },
        });
        let answer = model(chat.max_tokens.unwrap_or(u64::MAX)).map(|word| {
            let choice = json!({ "index": 0, "delta": { "content": word } });
            json!({ "object": "chat.completion.chunk", "choices": [choice] }).to_string()
        });
        let events = stream::iter([first.to_string()]).chain(answer).chain(stream::iter(["[DONE]".to_owned()]));
        return Sse::new(events.map(|data| Ok::<_, Infallible>(Event::default().data(data)))).into_response();
    }
    // An answer that is sent as a whole cannot be cut, so it is not longer than what is reserved.
    let words: Vec<&str> = model(chat.max_tokens.unwrap_or(ANSWER)).collect().await;
    let count = words.len() as u64;
    Json(json!({
        "object": "chat.completion",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": words.concat() } }],
        "usage": { "prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count },
    }))
    .into_response()
}

/// Stands for a language model: it tells a story of 300 tokens, or a part of it.
fn model(most: u64) -> impl stream::Stream<Item = &'static str> + Send {
    let words = ["Once ", "upon ", "a ", "time, ", "a ", "limit ", "held. "];
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(300);
    stream::iter(words.into_iter().cycle().take(most)).then(|word| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        word
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let tokens = env::var("TOKENS").unwrap_or_else(|_| "100000/min".into());
    let redis = env::var("REDIS_URL").ok();
    let limiter = match &redis {
        Some(url) => RateLimiter::builder().redis_url(url).build()?,
        None => RateLimiter::builder().build()?,
    };
    let route = post(completions).layer(from_fn(with_headers));
    let app = Router::new().route("/v1/chat/completions", route);
    let app = app.layer(layer(&limiter, &tokens, redis.is_some())?).layer(from_fn(read_chat));

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; try PORT=3001"))?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    println!("Listening on {url}. In any minute, 60 requests and {tokens} tokens for each API key. Try:");
    println!("  curl -sN {url} -H 'Authorization: Bearer ann' \\");
    println!("    -d '{{\"stream\": true, \"messages\": [{{\"content\": \"Tell me a story.\"}}]}}'");
    println!("Ctrl-C stops it.");
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    if redis.is_some() {
        limiter.hybrid().shutdown().await;
    }
    Ok(())
}

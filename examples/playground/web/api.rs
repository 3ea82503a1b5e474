//! The calls of the page: the stream of snapshots, the settings, and the switch of Redis.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response, Sse};
use futures_util::stream;
use serde_json::{Value, json};

use super::{MOST_STREAMS, Shared};

type Failure = (StatusCode, Json<Value>);

pub(crate) fn error(status: StatusCode, text: &str) -> Failure {
    (status, Json(json!({ "error": text })))
}

/// Sends the newest snapshot whenever the page has read the last one.
pub(crate) async fn events(State(shared): State<Shared>) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let text = format!("{MOST_STREAMS} pages are open already; close one");
        return error(StatusCode::SERVICE_UNAVAILABLE, &text).into_response();
    };
    let snapshots = shared.snapshots.subscribe();
    let events = stream::unfold((snapshots, permit), |(mut snapshots, permit)| async move {
        snapshots.changed().await.ok()?;
        let event = Event::default().data(&*snapshots.borrow_and_update());
        Some((Ok::<_, Infallible>(event), (snapshots, permit)))
    });
    Sse::new(events).into_response()
}

/// Changes some settings, and returns all of them.
pub(crate) async fn change_settings(
    State(shared): State<Shared>,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let changes = parse(body)?;
    let mut result = Ok(Value::Null);
    // Two visitors may change settings at the same time.
    shared.settings.send_if_modified(|settings| match settings.with(&changes) {
        Ok(changed) => {
            let differs = changed != *settings;
            *settings = changed;
            result = Ok(settings.to_json());
            differs
        }
        Err(text) => {
            result = Err(text);
            false
        }
    });
    result.map(Json).map_err(|text| error(StatusCode::BAD_REQUEST, &text))
}

/// Stops or starts Redis.
pub(crate) async fn switch_redis(
    State(shared): State<Shared>,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Result<Json<Value>, Failure> {
    let wanted = parse(body)?;
    let is_running = wanted.get("running").and_then(Value::as_bool);
    let redis = shared.redis;
    let is_done = match is_running {
        Some(true) => redis.start().await,
        Some(false) => redis.stop().await,
        None => return Err(error(StatusCode::BAD_REQUEST, "send {\"running\": true} or {\"running\": false}")),
    };
    match is_done {
        true => Ok(Json(json!({ "running": is_running }))),
        false => Err(error(StatusCode::CONFLICT, "this program has not started Redis, so it has no switch for it")),
    }
}

fn parse(body: Result<axum::body::Bytes, BytesRejection>) -> Result<Value, Failure> {
    let body = body.map_err(|rejection| error(rejection.status(), &rejection.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|problem| error(StatusCode::BAD_REQUEST, &format!("the body is no valid JSON: {problem}")))
}

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{JsonBody, KeyBody, LimitInPath, ModeBody};
use super::limit_json::{description, key_state, report};
use super::problem::Problem;
use crate::error::{ConfigError, StoreError, StoreErrorKind};
use crate::layer::{Control, KeyControl, LimitControl, LimitMode};

/// The most bytes of a request's body.
const LARGEST_BODY: usize = 64 << 10;

/// Creates a router for operators of the layer that `control` belongs to.
///
/// It is never part of your service by itself. A client of the router can read the names of tracked keys, reset and
/// block keys, and switch limits off. So mount it on a listener of its own that only operators reach, or behind your
/// authentication. See the page `guide::admin`.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_weir::{RateLimitLayer, TopKeys, admin};
///
/// let layer = RateLimitLayer::builder().quotas(["100/min"]).top_keys(TopKeys::names(100)).build()?;
/// // Serve it on another listener than the service.
/// let operators: Router = admin::router(layer.control());
/// let service: Router = Router::new().route("/", get(|| async { "hello" })).layer(layer);
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
pub fn router<S>(control: Control) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/limits", get(limits))
        .route("/limits/{limit}/top", get(top))
        .route("/limits/{limit}/usage", post(usage))
        .route("/limits/{limit}/reset", post(reset))
        .route("/limits/{limit}/block", post(block))
        .route("/limits/{limit}/unblock", post(unblock))
        .route("/limits/{limit}/mode", post(mode))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(map_response(never_stored))
        .with_state(control)
}

/// What a route responds with.
type Answer = Result<Json<Value>, Problem>;

async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn limits(State(control): State<Control>) -> Json<Value> {
    Json(json!({ "limits": control.describe().iter().map(description).collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TopQuery {
    by: By,
    n: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Refusals,
    Requests,
}

impl Default for TopQuery {
    fn default() -> Self {
        Self { by: By::Refusals, n: 20 }
    }
}

async fn top(LimitInPath(limit): LimitInPath, query: Result<Query<TopQuery>, QueryRejection>) -> Answer {
    let Query(TopQuery { by, n }) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let found = limit.top_keys().ok_or_else(|| untracked(&limit))?;
    let (by, mut keys) = match by {
        By::Refusals => ("refusals", found.by_refusals()),
        By::Requests => ("requests", found.by_requests()),
    };
    keys.truncate(n);
    Ok(Json(report(limit.name(), by, &found, &keys)))
}

async fn usage(LimitInPath(limit): LimitInPath, JsonBody(body): JsonBody<KeyBody>) -> Answer {
    let key = body.without_seconds()?.key(&limit)?;
    state(&limit, &key, "now").await
}

async fn reset(LimitInPath(limit): LimitInPath, JsonBody(body): JsonBody<KeyBody>) -> Answer {
    let key = body.without_seconds()?.key(&limit)?;
    let before = state(&limit, &key, "before").await?;
    key.reset().await?;
    Ok(before)
}

async fn block(LimitInPath(limit): LimitInPath, JsonBody(body): JsonBody<KeyBody>) -> Answer {
    needs_ban(&limit)?;
    let (seconds, key) = (body.seconds()?, body.key(&limit)?);
    // A limit with a ban refuses only a time that is longer than its ban.
    let too_long = |error: StoreError| match error.kind() {
        StoreErrorKind::NotConfigured => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        _ => error.into(),
    };
    key.block(Duration::from_secs(seconds)).await.map_err(too_long)?;
    state(&limit, &key, "now").await
}

async fn unblock(LimitInPath(limit): LimitInPath, JsonBody(body): JsonBody<KeyBody>) -> Answer {
    needs_ban(&limit)?;
    let key = body.without_seconds()?.key(&limit)?;
    let before = state(&limit, &key, "before").await?;
    key.unblock().await?;
    Ok(before)
}

async fn mode(
    State(control): State<Control>,
    LimitInPath(limit): LimitInPath,
    JsonBody(body): JsonBody<ModeBody>,
) -> Answer {
    let invalid = |error: ConfigError| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    limit.set_mode(body.mode.parse::<LimitMode>().map_err(invalid)?).map_err(invalid)?;
    let described = control.describe();
    // An update may have removed the limit.
    let changed = described.iter().find(|other| other.name == limit.name());
    changed
        .map(|changed| Json(description(changed)))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the limit was removed"))
}

/// The state of a key, in a field with this name.
async fn state(limit: &LimitControl, key: &KeyControl, field: &str) -> Answer {
    let usage = key.usage().await?;
    let blocked_for = if limit.has_ban() { key.blocked_for().await? } else { None };
    Ok(Json(key_state(key, field, usage.as_ref(), blocked_for)))
}

fn needs_ban(limit: &LimitControl) -> Result<(), Problem> {
    let what =
        "this limit has no ban, so it blocks nobody; write .ban(Ban::manual()) or .ban(\"20 in 1h for 1d\") on it";
    if limit.has_ban() { Ok(()) } else { Err(Problem::new(StatusCode::CONFLICT, what)) }
}

fn untracked(limit: &LimitControl) -> Problem {
    let what = "does not track its keys; write .top_keys(\"100 ids\") or .top_keys(\"100 names\") on it";
    Problem::new(StatusCode::CONFLICT, format!("the limit {:?} {what}", limit.name()))
}

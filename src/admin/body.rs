//! What requests of operators contain.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::key_json;
use super::problem::Problem;
use crate::error::ConfigError;
use crate::key::{KeyName, KeyParts};
use crate::layer::{Control, KeyControl, KeyId, LimitControl};

/// The limit in the path of a request.
pub(super) struct LimitInPath(pub(super) LimitControl);

/// A body with the content type `application/json`. A page of another site cannot send one without a CORS preflight.
pub(super) struct JsonBody<T>(pub(super) T);

/// The key of a request, by its value or by the id in a report.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    /// `null` is a key too.
    #[serde(default, deserialize_with = "present")]
    key: Option<Value>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeBody {
    pub(super) mode: String,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<S> FromRequestParts<S> for LimitInPath
where
    S: Send + Sync,
    Control: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        /// By its name, because a router around this one may have parameters too.
        #[derive(Deserialize)]
        struct Named {
            limit: String,
        }
        let path: Result<Path<Named>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(Named { limit }) = path.map_err(|error| Problem::new(error.status(), error.body_text()))?;
        // The error lists the limits that exist.
        let unknown = |error: ConfigError| Problem::new(StatusCode::NOT_FOUND, error.to_string());
        Control::from_ref(state).limit(&limit).map(Self).map_err(unknown)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

impl KeyBody {
    /// The key of the limit.
    pub(super) fn key(&self, limit: &LimitControl) -> Result<KeyControl, Problem> {
        match (&self.key, &self.id) {
            (Some(key), None) => by_value(limit, key),
            (None, Some(id)) => by_id(limit, id),
            _ => Err(Problem::unprocessable("write either \"key\" or \"id\"")),
        }
    }

    /// The time of a block.
    pub(super) fn seconds(&self) -> Result<u64, Problem> {
        let seconds = self.seconds.filter(|seconds| *seconds > 0);
        seconds.ok_or_else(|| Problem::unprocessable("write for how long, at least 1, as in \"seconds\": 600"))
    }

    /// The same body if it has no time.
    pub(super) fn without_seconds(self) -> Result<Self, Problem> {
        match self.seconds {
            None => Ok(self),
            Some(_) => Err(Problem::unprocessable("only a block has \"seconds\"; leave them out")),
        }
    }
}

fn by_value(limit: &LimitControl, key: &Value) -> Result<KeyControl, Problem> {
    let name = key_json::read(key).map_err(Problem::unprocessable)?;
    if KeyParts::read(name.as_bytes()).is_none() {
        return Ok(limit.key(&name));
    }
    limit.fitted(name.as_bytes()).ok_or_else(|| {
        Problem::unprocessable(format!(
            "no request has such a key, because the key of this limit is `{}`; write a text as \"acme\", an address as \
             {{\"ip\": \"203.0.113.7\"}}, a digest as {{\"bytes\": \"9f86…\"}}, joined keys as a list, and null for \
             global",
            limit.key_text()
        ))
    })
}

fn by_id(limit: &LimitControl, id: &str) -> Result<KeyControl, Problem> {
    let id: KeyId = id.parse().map_err(|_| Problem::unprocessable("an id has 16 hexadecimal digits"))?;
    let report = limit.top_keys();
    let name: Option<&KeyName> = report.as_ref().and_then(|report| report.get(id)?.name());
    name.map(|name| limit.key(name)).ok_or_else(|| {
        let what = "no key with this id is tracked by its name; write the key itself, or \
                    .top_keys(\"100 names\") on the limit";
        Problem::new(StatusCode::NOT_FOUND, what)
    })
}

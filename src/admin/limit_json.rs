//! Limits, keys and reports as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::key_json;
use crate::decision::Decision;
use crate::layer::{Estimate, KeyControl, LimitDescription, TopKey, TopKeysReport};
use crate::time::seconds_up;

/// The settings of a limit, with the texts of a policy's table.
pub(super) fn description(limit: &LimitDescription) -> Value {
    let routes = limit.routes.iter().map(|(route, quotas)| (route.clone(), Value::from(quotas.as_str())));
    json!({
        "name": limit.name,
        "mode": limit.mode.to_string(),
        "key": limit.key,
        "quotas": limit.quotas,
        "routes": routes.collect::<Map<_, _>>(),
        "strategy": limit.strategy,
        "in_flight": limit.in_flight,
        "ban": limit.ban.map(|ban| ban.to_string()),
        "top_keys": limit.top_keys.map(|keys| keys.to_string()),
    })
}

/// A ranking of a limit's keys.
pub(super) fn report(limit: &str, by: &str, report: &TopKeysReport, keys: &[&TopKey]) -> Value {
    json!({
        "limit": limit,
        "by": by,
        "since_seconds": report.since().as_secs(),
        "requests": report.requests(),
        "refusals": report.refusals(),
        "keys": keys.iter().map(|key| top_key(key)).collect::<Vec<_>>(),
    })
}

/// A key without a name has no field `key`, because `null` is a key.
fn top_key(key: &TopKey) -> Value {
    let mut fields = Map::new();
    fields.insert("id".into(), key.id().to_string().into());
    fields.extend(key.name().map(|name| ("key".into(), key_json::write(name))));
    fields.insert("requests".into(), estimate(key.requests()));
    fields.insert("refusals".into(), estimate(key.refusals()));
    fields.into()
}

fn estimate(estimate: Estimate) -> Value {
    json!({ "at_least": estimate.at_least, "at_most": estimate.at_most })
}

/// A key, and its state in a field with this name.
pub(super) fn key_state(key: &KeyControl, field: &str, usage: Option<&Decision>, blocked: Option<Duration>) -> Value {
    json!({
        "key": key_json::write(&key.name()),
        field: {
            "used": usage.map(Decision::used),
            "limit": usage.map(Decision::limit),
            "remaining": usage.map(Decision::remaining),
            "reset_after_seconds": usage.map(|usage| seconds_up(usage.reset_after())),
            "blocked_seconds": blocked.map(seconds_up),
        },
    })
}

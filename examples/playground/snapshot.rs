//! The data of the page: all figures and the last 30 seconds, as one JSON text that needs no earlier one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tower_weir::OnStoreError;

use crate::history::{SLICE_MS, SLICES, Series, Stopwatch};
use crate::instances::Fleet;
use crate::local::Local;
use crate::pair::{DecidedBy, Disturbance, Instance, Pair};
use crate::servers::{Redis, Status};
use crate::settings::Settings;
use crate::track::Track;

/// The time between two snapshots.
const INTERVAL: Duration = Duration::from_millis(200);

/// Publishes snapshots while a page is open.
///
/// Each page reads the newest one. A page that reads slowly misses some, and nothing is queued for it.
pub(crate) fn publish(
    watch: Stopwatch,
    settings: watch::Receiver<Settings>,
    local: Local,
    fleet: Fleet,
    redis: Arc<Redis>,
) -> watch::Sender<Arc<str>> {
    let (sender, _) = watch::channel(Arc::from(""));
    let publisher = sender.clone();
    tokio::spawn(async move {
        let mut times = tokio::time::interval(INTERVAL);
        times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            if publisher.receiver_count() > 0 {
                let settings = settings.borrow().clone();
                let snapshot = snapshot(watch.ms(), &settings, &local, &fleet, &redis);
                publisher.send_replace(snapshot.to_string().into());
            }
        }
    });
    sender
}

fn snapshot(now_ms: u64, settings: &Settings, local: &Local, fleet: &Fleet, redis: &Redis) -> Value {
    let mut tracks = local.lock();
    let (offered, limit) = (series(&mut tracks.absolute.offered, now_ms), series(&mut tracks.limit, now_ms));
    let hard_cap = series(&mut tracks.hard_cap, now_ms);
    let mut absolute = track(&mut tracks.absolute, now_ms);
    let mut suppressed = track(&mut tracks.suppressed, now_ms);
    let factor = series(&mut tracks.factor, now_ms);
    let limits = tracks.settings.clone();
    drop(tracks);
    absolute["bound"] = limits.limit.into();
    suppressed["bound"] = limits.hard_cap().into();
    let pairs = fleet.pairs.iter().enumerate();
    let pairs: serde_json::Map<String, Value> =
        pairs.map(|(index, of)| (of.name.to_owned(), pair(of, now_ms, redis.calls_per_second(index)))).collect();
    json!({
        "now": now_ms,
        "slice": SLICE_MS,
        "slices": SLICES,
        "settings": settings.to_json(),
        "limit": limits.limit,
        "window": limits.window_s,
        "hard_cap": limits.hard_cap(),
        "series": { "offered": offered, "limit": limit, "hard_cap": hard_cap, "factor": factor },
        "absolute": absolute,
        "suppressed": suppressed,
        "redis": { "status": status(redis.status()), "text": redis.to_string() },
        "pairs": pairs,
    })
}

fn track(track: &mut Track, now_ms: u64) -> Value {
    json!({
        "used": track.meter.used(now_ms),
        "most": track.meter.most(),
        "offered": series(&mut track.offered, now_ms),
        "admitted": series(&mut track.admitted, now_ms),
        "in_use": series(&mut track.in_use, now_ms),
    })
}

fn pair(pair: &Pair, now_ms: u64, calls_per_second: Option<f64>) -> Value {
    let mut state = pair.lock();
    let instances: Vec<Value> = state.alone.iter_mut().map(|one| instance(one, now_ms)).collect();
    let mut value = track(&mut state.together, now_ms);
    let (settings, disturbance) = (state.settings(), state.disturbance());
    value["bound"] = bound(settings, disturbance).into();
    value["disturbance"] = match disturbance {
        None => Value::Null,
        Some(Disturbance::Change) => "change".into(),
        Some(Disturbance::Outage) => "outage".into(),
        Some(Disturbance::Return) => "return".into(),
    };
    value["share"] = (settings.limit / 2).max(1).into();
    value["calls"] = calls_per_second.map(f64::round).into();
    value["instances"] = instances.into();
    value
}

/// The most units in a window, or `None` if there is no bound now.
fn bound(settings: &Settings, disturbance: Option<Disturbance>) -> Option<u64> {
    match disturbance {
        None => Some(settings.limit),
        Some(Disturbance::Change | Disturbance::Return) => None,
        Some(Disturbance::Outage) => match settings.on_outage {
            OnStoreError::Allow => None,
            OnStoreError::Reject => Some(settings.limit),
            // When the outage starts, an instance does not know what the other one has admitted.
            _ => Some(settings.limit + settings.limit.div_ceil(2)),
        },
    }
}

fn instance(instance: &mut Instance, now_ms: u64) -> Value {
    let mut value = track(&mut instance.track, now_ms);
    value["decided_by"] = match instance.decided_by {
        DecidedBy::Redis => "redis",
        DecidedBy::Share => "share",
        DecidedBy::Policy => "policy",
    }
    .into();
    value["is_breaker_open"] = instance.is_breaker_open.into();
    value
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Absent => "absent",
        Status::External => "external",
        Status::Starting => "starting",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Failed => "failed",
    }
}

fn series(series: &mut Series, now_ms: u64) -> Vec<Value> {
    let number = |value: f64| match value.fract() == 0.0 {
        true => Value::from(value as u64),
        false => Value::from((value * 1_000.0).round() / 1_000.0),
    };
    series.complete(now_ms).into_iter().map(number).collect()
}

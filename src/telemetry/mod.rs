//! What the crate reports to its operator: log lines, spans, events and metrics.
//!
//! Each [`Notice`] is logged once per process, with the cause and the fix. With the feature `tracing`, notices go to
//! `tracing`, and without it to standard error. The feature `tracing` also adds decisions to spans, and writes events
//! about refusals. The feature `metrics` counts through the `metrics` facade. The page `guide::observability` lists all
//! names.
//!
//! Nothing contains a key or an address. The module that detects a problem counts and judges. This module decides only
//! whether to report it.
//!
//! Each reporter has two files: one for its feature, and an empty one, so that no caller asks for a feature.

#[cfg(feature = "middleware")]
mod decision_event;
#[cfg(all(feature = "middleware", any(feature = "metrics", feature = "tracing")))]
mod decision_names;
#[cfg(feature = "middleware")]
mod drop_counter;
#[cfg(feature = "metrics")]
mod handles;
#[cfg(feature = "middleware")]
#[cfg_attr(not(feature = "metrics"), path = "limit_metrics_absent.rs")]
mod limit_metrics;
#[cfg(feature = "middleware")]
#[cfg_attr(not(feature = "tracing"), path = "limit_trace_absent.rs")]
mod limit_trace;
#[cfg(feature = "middleware")]
mod limit_watch;
mod log;
mod notice;
mod notify;
#[cfg(feature = "_redis")]
#[cfg_attr(not(feature = "metrics"), path = "redis_watch_absent.rs")]
mod redis_watch;
#[cfg(feature = "_redis")]
#[cfg_attr(not(feature = "metrics"), path = "remote_watch_absent.rs")]
mod remote_watch;
#[cfg_attr(not(feature = "metrics"), path = "table_metrics_absent.rs")]
mod table_metrics;
#[cfg_attr(not(feature = "tracing"), path = "table_trace_absent.rs")]
mod table_trace;
mod table_watch;

#[cfg(feature = "middleware")]
pub use self::decision_event::{DecisionEvent, DecisionOutcome, DecisionReason};
#[cfg(feature = "middleware")]
pub(crate) use self::decision_event::{OnDecision, Seen};
#[cfg(feature = "middleware")]
pub(crate) use self::drop_counter::DropCounter;
#[cfg(feature = "middleware")]
pub(crate) use self::limit_watch::{InFlight, LimitWatch};
pub use self::notice::Notice;
#[cfg(all(test, feature = "middleware"))]
pub(crate) use self::notify::is_spent;
pub(crate) use self::notify::notify;
#[cfg(feature = "_redis")]
pub(crate) use self::notify::report;
#[cfg(feature = "_redis")]
pub(crate) use self::redis_watch::{RedisWatch, count_failure};
#[cfg(feature = "_redis")]
pub(crate) use self::remote_watch::RemoteWatch;
pub(crate) use self::table_watch::TableWatch;

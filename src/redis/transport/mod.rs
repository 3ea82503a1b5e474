//! The transport to Redis: it connects, reconnects, and classifies failures.
//!
//! It does not interpret decisions, scripts or keys. [`Transport::send`] takes one command. It returns the value from
//! Redis, or a [`Failure`] that shows the store what to do next. On its own connections, the transport sends a command
//! **at most once**, unless Redis itself reported that the command did not run.

mod backend;
mod cause;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod connector;
mod diagnosis;
mod external;
mod failure;
mod failure_kind;
#[cfg_attr(not(feature = "redis-cluster"), allow(dead_code, reason = "only a cluster uses more than one socket"))]
mod guarded_connection;
mod link;
mod scan_delete;
#[cfg(feature = "redis-sentinel")]
mod sentinel;
#[cfg_attr(not(feature = "redis-cluster"), allow(dead_code, reason = "only a cluster's connection is renewed"))]
mod single_flight;
mod slot;
#[cfg(test)]
mod tests;
#[cfg_attr(not(feature = "redis-rustls"), path = "tls_absent.rs")]
mod tls;
mod url;
mod words;

pub(crate) use self::failure::Failure;
pub(crate) use self::failure_kind::FailureKind;
pub(crate) use self::link::Transport;
pub(crate) use self::slot::slot;

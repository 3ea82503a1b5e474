//! The way to Redis: connecting, reconnecting, and saying what a failure means.
//!
//! No decision, script or key is known here. [`Transport::send`] takes one command and answers with Redis's value
//! or with a [`Failure`] of which the store can tell what to do next. On links that are built here a command
//! is sent **at most once**, except where Redis itself has said that it did not run.

mod backend;
mod cause;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod connector;
mod diagnosis;
mod external;
mod failure;
mod failure_kind;
#[cfg_attr(not(feature = "redis-cluster"), allow(dead_code, reason = "only a cluster's is not one socket"))]
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

//! The examples as what they are: programs, on real sockets, with the requests that their comments name.
#![cfg(all(feature = "axum", feature = "serde", feature = "tonic", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod clients;
mod gateway;
mod grpc;
mod limits;
#[cfg(all(unix, feature = "metrics", feature = "redis-tokio"))]
mod observability;
#[cfg(feature = "admin")]
mod operations;
#[cfg(unix)]
mod playground;
mod programs;
mod replay;
#[path = "../support/mod.rs"]
mod support;

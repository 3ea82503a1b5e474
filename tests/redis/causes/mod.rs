//! Every way in which Redis can be configured wrongly and never be used ends in one line that names the cause and
//! its fix, and holds no address, key or secret.
//!
//! The causes are brought about by real servers. Each is met by a process of its own, this very program, whose log
//! is read: certificates come from its environment.
#![cfg(all(unix, feature = "redis-tokio", feature = "redis-cluster", feature = "redis-sentinel", feature = "tracing"))]
#![allow(clippy::unwrap_used)]

mod client;
mod login;
mod network;
mod sentinel;
mod state;
#[cfg(feature = "redis-rustls")]
mod tls;

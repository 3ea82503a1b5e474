//! Clients and proxies that other people wrote, in front of real servers.
//!
//! A plain `cargo test` ignores those that are programs; `tests/run.sh` installs them and runs their tests.
#![cfg(feature = "axum")]

mod proxies;
#[path = "../support/mod.rs"]
mod support;
mod usual_clients;

//! Pages in a real browser: the playground, the report of `weir-replay`, and the plots of the documentation.
//!
//! `tests/run.sh` installs Chromium and its driver, and runs these tests.
#![cfg(all(
    unix,
    feature = "axum",
    feature = "serde",
    feature = "tonic",
    feature = "metrics",
    feature = "redis-tokio"
))]
#![allow(clippy::unwrap_used)]

mod access;
mod driver;
mod instances;
mod layout;
mod one_key;
mod pictures;
mod playground;
mod security;

#[allow(dead_code, reason = "these tests start few of the examples")]
#[path = "../examples/programs.rs"]
mod programs;
#[path = "../support/mod.rs"]
mod support;

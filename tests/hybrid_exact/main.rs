//! That the hybrid store is exact across processes: at any limit and load, and while instances and Redis fail.
//!
//! The whole matrix, as a table, shows
//!
//! ```text
//! cargo test --features redis-tokio --test hybrid_exact -- --ignored --nocapture --exact matrix::report
//! ```
//!
//! `WEIR_MATRIX_SECONDS` says how long each row takes at least (3), and `WEIR_MATRIX_ROWS` which rows: those whose
//! names have all of its words, as in `"100/s W=1s 16"` for sixteen processes.
#![cfg(all(target_os = "linux", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod faults;
mod matrix;
mod processes;
mod record;
#[path = "../support/mod.rs"]
mod support;

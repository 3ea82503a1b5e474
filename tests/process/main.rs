//! What belongs to a process: its allocator, its metrics and spans, and the notices that it logs once.

mod alloc;
#[cfg(all(feature = "metrics", feature = "middleware"))]
mod metrics;
mod notices;
#[cfg(all(feature = "tracing", feature = "middleware"))]
mod spans;
#[path = "../support/mod.rs"]
mod support;

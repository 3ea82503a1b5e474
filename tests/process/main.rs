//! What belongs to a process: its allocator, and the notices that it logs once.

mod alloc;
mod notices;
#[path = "../support/mod.rs"]
mod support;

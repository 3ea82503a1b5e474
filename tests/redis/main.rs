//! The stores on real Redis and Valkey servers: what every store promises, exactness, permissions, runtimes and errors.
#![cfg(unix)]

mod acl;
mod causes;
mod conformance;
mod exact;
mod harness;
mod in_flight;
mod on_smol;
#[path = "../support/mod.rs"]
mod support;
mod together;
mod without_runtime;

//! The layer around HTTP and gRPC services, without Redis: keys, responses, protocols and the Tower contract.
#![cfg(feature = "middleware")]

#[cfg(feature = "admin")]
mod admin;
mod answers;
mod axum_server;
mod ban;
mod client_ip;
mod control;
mod cors;
mod deny;
mod exempt;
mod frames;
mod in_flight;
mod keys;
mod layer;
mod limits;
mod lookup;
mod meter;
mod observe;
mod one_budget;
mod policy;
mod quota_lookup;
mod readers;
mod settle;
mod stacked;
#[path = "../support/mod.rs"]
mod support;
mod tonic_server;
mod top_keys;
mod uploads;
mod waiting;

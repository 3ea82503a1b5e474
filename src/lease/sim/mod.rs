//! A simulation of the protocol: virtual time, instances with inaccurate clocks, and an unreliable network.
//!
//! The instances are real: each drives the state machine of the store. Redis is a `model` of the script with one key,
//! and `twins` compares the model with the script itself. `world` contains the events between them, in the courses of
//! `setup`. `instance` is the driver in virtual time, and `judge` contains the conditions for all admissions.
//! `protections` removes parts of the protocol, and shows the faults that they prevent.

mod instance;
mod judge;
mod lend;
mod liveness;
mod model;
mod protections;
mod rules;
mod safety;
mod setup;
mod twins;
mod world;

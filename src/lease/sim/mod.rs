//! The protocol in a world of its own: virtual time, instances with clocks that are wrong, a network that is worse.
//!
//! The instances are real: each drives the state machine of the store. Redis is a `model` of the script, one key in the
//! simplest words, and `twins` hold it against the script itself. `world` is what happens between them, in the
//! courses of `setup`; `instance` is the driver in virtual time, and `judge` says what must be true of all that was
//! admitted. `protections` takes parts of the protocol out, and finds what they protect from.

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

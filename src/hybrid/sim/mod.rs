//! The protocol in a world of its own: virtual time, instances with clocks that are wrong, a network that is worse.
//!
//! The instances are real: their purses are those of the store. Redis is a `model` of the script, one key in the
//! simplest words, and `twins` hold it against the script itself. `world` is what happens between them, in the
//! courses of `setup`; `instance` what the store does around a purse, and `judge` what must be true of all that was admitted.

mod instance;
mod judge;
mod lend;
mod liveness;
mod model;
mod rules;
mod safety;
mod setup;
mod twins;
mod world;

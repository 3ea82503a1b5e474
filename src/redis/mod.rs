//! The Redis store: one script on one key, many instances, one limit.

#![cfg_attr(not(test), expect(dead_code, reason = "the store that uses these rooms is not here yet"))]

mod breaker;
mod link;
mod runtime;

//! The Redis store: one script on one key, many instances, one limit.

#![cfg_attr(
    not(all(test, feature = "redis-tokio")),
    expect(dead_code, reason = "the store that uses these rooms is not here yet")
)]

mod breaker;
mod link;
mod runtime;

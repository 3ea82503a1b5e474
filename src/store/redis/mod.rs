//! The Redis store: the windows of many keys on a server, shared by all instances.
//!
//! Around the client stand a deny cache, so that a flood costs Redis nothing, and this instance's share of the limit,
//! which decides while Redis is gone.

mod calls;
mod deny_cache;
mod policy_cache;
mod redis_store;
mod state;

pub use self::calls::RedisLimits;
pub use self::redis_store::RedisStore;

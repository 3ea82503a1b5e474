//! The Redis store: the windows of many keys on a server, shared by all instances.
//!
//! It adds two parts to the client. The deny cache makes a flood cost Redis nothing. This instance's share of the limit
//! decides during an outage.

mod calls;
mod deny_cache;
mod joint_refusals;
mod policy_cache;
mod redis_store;
mod reservation;
mod state;
mod together;
mod wait;

pub use self::calls::RedisLimits;
pub use self::redis_store::RedisStore;
pub(super) use self::together::decide_together;

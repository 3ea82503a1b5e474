//! The Redis store: the windows of many keys on a server, shared by all instances.
//!
//! It adds two parts to the client. The deny cache makes a flood cost Redis nothing. This instance's share of the limit
//! decides during an outage. The permits of requests in flight are renewed for as long as the requests last.

mod calls;
mod deny_cache;
mod joint_refusals;
mod permits;
mod policy_cache;
mod redis_store;
mod renewal;
mod renewals;
mod reservation;
mod state;
mod together;
mod wait;

pub use self::calls::RedisLimits;
pub use self::redis_store::RedisStore;
pub(super) use self::together::decide_together;

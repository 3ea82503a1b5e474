//! The hybrid store: decisions from memory, limits from Redis.
//!
//! A key that is asked for less than once in an interval is decided on in Redis each time, and one that is full is
//! refused here until it frees up. Every other request is decided from a lease; see [`lease`](crate::lease), the state
//! machine that the drivers here carry out: `decide` for requests, `sync` for round trips, `task` for what is due later.

mod calls;
mod decide;
mod hybrid_store;
mod schedule;
mod state;
mod sync;
mod table;
mod task;

pub use self::calls::HybridLimits;
pub use self::hybrid_store::HybridStore;
pub use self::state::Usage;

//! The hybrid store: decisions from memory, limits from Redis.
//!
//! Redis decides every request for a key with less than one request per sync interval. This instance refuses requests
//! for a full key until units are free. A lease decides all other requests. [`lease`](crate::lease) is the state
//! machine. The drivers here execute it: `decide` for requests, `sync` for round trips, and `task` for later work.

mod answers;
mod calls;
mod corrections;
mod decide;
mod hybrid_budget;
mod hybrid_store;
mod reservation;
mod schedule;
mod state;
mod sync;
mod table;
mod task;
mod wait;
mod watched;

pub use self::calls::HybridLimits;
pub use self::hybrid_store::HybridStore;
pub use self::state::Usage;

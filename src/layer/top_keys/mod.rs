//! The busiest keys of a limit, in bounded memory: a tracker counts requests and refusals, and a report lists them.
//!
//! Nothing here runs for a limit that does not track its keys.

mod report;
mod space_saving;
mod tracker;

pub use self::report::{Estimate, KeyId, TopKey, TopKeysReport};
pub(super) use self::tracker::Tracker;

//! A router for operators: it shows the limits and their busiest keys, and resets, blocks and unblocks keys.
//!
//! The page `guide::admin` has the routes, with commands to try, and shows how to protect them.

mod body;
mod key_json;
mod limit_json;
mod problem;
mod router;

pub use self::router::router;

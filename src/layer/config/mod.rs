//! The limits and lists of a layer as data: from a file, or from the table that a layer prints.
//!
//! With the feature `serde`, each value checks itself while it is read, so that the loader's error has the line or the
//! path of the value. The table needs no feature.

mod cells;
#[cfg(feature = "serde")]
mod forms;
mod limit_config;
mod place;
mod rate_limit_config;
mod table;

pub(super) use self::cells::{BLANKS, cell, first_cell};
pub use self::limit_config::LimitConfig;
pub(super) use self::place::Place;
pub use self::rate_limit_config::{DenyConfig, ExemptConfig, RateLimitConfig};

//! Keyed storage: one window for each key, one table for each limit, bounded and swept.
//!
//! No key is stored: a keyed fingerprint of 128 bits stands for it.

pub(crate) mod cleanup;
pub(crate) mod fingerprint;
mod overflow;
pub(crate) mod registry;
pub(crate) mod sharded_map;
pub(crate) mod window_table;
mod windows;

#[cfg(feature = "_redis")]
pub(crate) use self::window_table::Place;
pub(crate) use self::window_table::WindowTable;
pub(crate) use self::windows::{Settings, Windows};

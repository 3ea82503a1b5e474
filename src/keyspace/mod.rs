//! Keyed storage: one window per key and one table per limit, bounded and swept; and the queues of waiting calls.
//!
//! It stores no key, but a keyed fingerprint of 128 bits.

pub(crate) mod cleanup;
pub(crate) mod fingerprint;
mod overflow;
pub(crate) mod prehashed;
mod queues;
pub(crate) mod registry;
pub(crate) mod sharded_map;
mod standing_refusal;
mod together;
pub(crate) mod window_table;
mod windows;

#[cfg(test)]
mod tests;

#[cfg(feature = "_redis")]
pub(crate) use self::queues::LazyQueues;
pub(crate) use self::queues::{Ahead, HeadRefusal, QueueBounds, Queues, Ticket};
pub(crate) use self::together::{Step, decide_together};
pub(crate) use self::window_table::{Place, WindowTable};
pub(crate) use self::windows::{Settings, Windows};

//! The local store: the windows of many keys, in this process.
//!
//! A decision takes one clock read, one fingerprint and one lookup. The check and the charge are one step under the
//! key's lock. The store keeps only a fingerprint of the key. A decision on a known key allocates nothing.

mod calls;
mod hold;
mod local_store;
mod reservation;
mod together;
mod wait;

#[cfg(test)]
mod tests;

pub use self::calls::LocalLimits;
pub use self::local_store::LocalStore;
#[cfg(feature = "middleware")]
pub(crate) use self::local_store::clock;
pub use self::reservation::LocalReservation;
pub(super) use self::together::decide_together;

//! What the crate tells its operator: each notice once in a process, with the cause and the fix.
//!
//! Through `tracing` with that feature, and to standard error without it. No key ever appears, and no address.
//! Whoever finds something counts and judges for itself; here it is said, or not.

#[cfg(feature = "middleware")]
mod drop_counter;
mod log;
mod notice;
mod notify;

#[cfg(feature = "middleware")]
pub(crate) use self::drop_counter::DropCounter;
pub use self::notice::Notice;
pub(crate) use self::notify::notify;
#[cfg(feature = "_redis")]
pub(crate) use self::notify::report;

//! What the crate logs for its operator: each notice once per process, with the cause and the fix.
//!
//! With the feature `tracing`, notices go to `tracing`, and without it to standard error. No notice contains a key or
//! an address. The module that detects a problem counts and judges. This module decides only whether to log it.

#[cfg(feature = "middleware")]
mod drop_counter;
mod log;
mod notice;
mod notify;

#[cfg(feature = "middleware")]
pub(crate) use self::drop_counter::DropCounter;
pub use self::notice::Notice;
#[cfg(all(test, feature = "middleware"))]
pub(crate) use self::notify::is_spent;
pub(crate) use self::notify::notify;
#[cfg(feature = "_redis")]
pub(crate) use self::notify::report;

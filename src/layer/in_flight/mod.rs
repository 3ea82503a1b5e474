//! Caps on the requests of a key that are in flight at once.
//!
//! A cap is a budget whose units are permits. The decision charges one, together with the other limits of the request.
//! A guard returns it when the last part of the request ends: the call, the body of the response, or a task of the
//! handler that holds the guard. The guard is created as soon as the decision is known, so nothing can lose it.

pub(super) mod cap;
mod open;
pub(super) mod permits;
pub(super) mod undecided;

pub use self::permits::Permits;

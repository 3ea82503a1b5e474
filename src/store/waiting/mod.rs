//! Calls that wait for units: one algorithm over all stores.
//!
//! A call joins the queue of its key. Only the head of a queue asks the store, and sleeps for the wait that the store
//! states. So any number of waiting calls cost the store one decision at a time, and no call passes an earlier one. A
//! waiting call holds no units: its decision charges them, and ends the call.

mod ask;
mod in_flight;
mod sleep;
mod until_allowed;

pub(in crate::store) use self::ask::Ask;
#[cfg(feature = "_redis")]
pub(in crate::store) use self::ask::PendingDecision;
#[cfg(feature = "_redis")]
pub(in crate::store) use self::in_flight::settle;
#[cfg(feature = "middleware")]
pub(crate) use self::sleep::Sleep;
#[cfg(feature = "_redis")]
pub(in crate::store) use self::until_allowed::or_admitted;
pub(in crate::store) use self::until_allowed::until_allowed;

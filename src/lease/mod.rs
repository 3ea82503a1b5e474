//! The lease protocol of the hybrid store, without I/O: what one instance knows of a key, and what follows from a
//! request, an answer or a timeout.
//!
//! An instance holds units of a key in advance, a lease, and spends them without asking. Redis has charged them
//! when it gave them, so that whatever happens no window admits more than the limit; the instance reports by age
//! what it has spent, and what it has not is free again. The script that lends is `script/lease.lua`.

mod events;
mod key_state;
#[allow(clippy::module_inception, reason = "a lease is the subject of the module")]
mod lease;
mod limit_set;
mod names;
mod outbox;
mod params;
mod refusal;
#[cfg(test)]
mod sim;

pub(crate) use self::events::{Action, Answer, Asked, Reaction, Request, RoundTrip, TimerAction};
pub(crate) use self::key_state::KeyState;
pub(crate) use self::limit_set::{LimitSet, OwnedLimitSet, limits_id};
pub(crate) use self::names::NameSource;
pub(crate) use self::params::StoreParams;

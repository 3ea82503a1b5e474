//! The lease protocol of the hybrid store, without I/O: the state of a key on one instance, and its reaction to
//! requests, replies and timeouts.
//!
//! A lease is a number of units that an instance holds in advance and spends without a call. Redis charges the lease
//! when it gives it, so no window admits more than the limit, whatever happens. The instance reports its spent units by
//! age, and the unspent units become free again. The script is `script/lease.lua`.

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
pub(crate) use self::lease::{Lease, life_for, min_elapsed};
pub(crate) use self::limit_set::{LimitSet, OwnedLimitSet, limits_id};
pub(crate) use self::names::NameSource;
pub(crate) use self::params::{StoreContext, StoreParams};

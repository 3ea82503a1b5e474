//! Where histories are kept: [`Store`], [`Budget`] and the stores of this crate.
//!
//! Implement the two traits for a store of your own. The layer accepts any store.

mod budget;
#[cfg(feature = "_redis")]
pub(crate) mod hybrid;
pub(crate) mod local;
#[cfg(feature = "_redis")]
pub(crate) mod local_share;
mod part;
#[cfg(feature = "_redis")]
pub(crate) mod redis;
#[cfg(feature = "_redis")]
mod remote_hold;
mod reservation;
mod reserve;
#[cfg(feature = "middleware")]
mod room;
mod together;
mod undated;
mod waiting;

pub use self::budget::{Budget, BudgetChange, BudgetHold, BudgetRequest, BudgetResponse, Hold, Store};
#[cfg(feature = "_redis")]
pub use self::hybrid::{HybridLimits, HybridStore, Usage};
#[cfg(feature = "middleware")]
pub(crate) use self::local::clock;
pub use self::local::{LocalLimits, LocalReservation, LocalStore};
pub use self::part::{Decisions, DecisionsResponse, MAX_LIMITS, Part, PendingDecisions};
#[cfg(feature = "_redis")]
pub use self::redis::{RedisLimits, RedisStore};
#[cfg(feature = "middleware")]
pub(crate) use self::reservation::hold;
pub use self::reservation::{Commit, Reservation};
#[cfg(feature = "middleware")]
pub(crate) use self::room::{WaitOptions, WaitingRoom};
#[cfg(feature = "middleware")]
pub(crate) use self::together::decide_into;
pub use self::together::decide_together;
#[cfg(feature = "middleware")]
pub(crate) use self::waiting::Sleep;
pub use crate::policy::Policy;
pub use crate::strategy::{Absolute, Strategy, StrategyKind, Suppressed};

//! Where histories are kept: [`Store`], [`Budget`] and the stores of this crate.
//!
//! Implement the two traits for a store of your own. The layer accepts any store.

mod budget;
mod commit;
#[cfg(any(feature = "middleware", feature = "_redis"))]
mod held;
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
#[cfg(feature = "_redis")]
mod reservation;
mod reserve;
#[cfg(feature = "middleware")]
mod room;
mod together;
mod waiting;

pub use self::budget::{Budget, BudgetChange, BudgetHold, BudgetRequest, BudgetResponse, Hold, Store};
pub use self::commit::Commit;
#[cfg(feature = "middleware")]
pub(crate) use self::held::hold;
#[cfg(feature = "_redis")]
pub use self::hybrid::{HybridLimits, HybridStore, Usage};
#[cfg(feature = "middleware")]
pub(crate) use self::local::clock;
pub use self::local::{LocalLimits, LocalReservation, LocalStore};
pub use self::part::{Decisions, DecisionsResponse, MAX_LIMITS, Part, PendingDecisions};
#[cfg(feature = "_redis")]
pub use self::redis::{RedisLimits, RedisStore};
#[cfg(feature = "_redis")]
pub use self::reservation::Reservation;
#[cfg(feature = "middleware")]
pub(crate) use self::room::{WaitOptions, WaitingRoom};
#[cfg(feature = "middleware")]
pub(crate) use self::together::decide_into;
pub use self::together::decide_together;
#[cfg(feature = "middleware")]
pub(crate) use self::waiting::Sleep;
pub use crate::policy::Policy;
pub use crate::strategy::{Absolute, Strategy, StrategyKind, Suppressed};

//! Charges that depend on the response: a function keeps, refunds or raises them when the response is known.
//!
//! Every charge is settled once. Without a response, it stays: the future was dropped, the handler panicked, or the
//! inner service failed. Otherwise a client could avoid the charge by hanging up.

mod charge;
mod response_view;

use std::sync::Arc;

pub use self::charge::Charge;
pub use self::response_view::{BodyEnd, ResponseView};

/// Settles a charge when the head of the response is known.
pub(super) type SettleHead = dyn Fn(&mut Charge, &ResponseView<'_>) + Send + Sync;
/// Settles a charge when the body of the response ends.
pub(super) type SettleEnd = dyn Fn(&mut Charge, &BodyEnd<'_>) + Send + Sync;

/// The functions that settle the charges of a limit.
#[derive(Clone, Default)]
pub(super) struct Settles {
    pub(super) head: Option<Arc<SettleHead>>,
    pub(super) end: Option<Arc<SettleEnd>>,
}

impl Settles {
    pub(super) fn is_some(&self) -> bool {
        self.head.is_some() || self.end.is_some()
    }

    /// These functions, or those of `other` if there are none.
    pub(super) fn or(self, other: &Self) -> Self {
        if self.is_some() { self } else { other.clone() }
    }
}

//! Reservations: units that are charged before their cost is known.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, BudgetRequest, Hold};
use super::commit::Commit;
use super::held::{Undated, hold};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::policy::OnStoreError;

/// Reserved units of one key in Redis; see [`RedisLimits::reserve`](super::RedisLimits::reserve).
///
/// Dropping it keeps the units that were [spent](Self::spend), and frees the rest in the background.
#[must_use = "dropping a reservation frees its units"]
pub struct Reservation {
    budget: Arc<dyn Budget>,
    key: Box<[u8]>,
    hold: Option<Box<dyn Hold>>,
    decision: Decision,
    units: u64,
    spent: u64,
}

/// Reserves units; returns the decision, their number, and their hold.
async fn reserve(
    budget: &Arc<dyn Budget>,
    key: &[u8],
    n: u64,
    ttl: Duration,
    is_partial: bool,
) -> Result<(Decision, u64, Option<Box<dyn Hold>>), StoreError> {
    let ask = |units| budget.decide(BudgetRequest::new(key, units)).complete();
    let (refusal, mut units) = (ask(n).await?, n);
    let mut decision = refusal;
    while is_partial && !decision.is_allowed() {
        // Others may take units between two calls, so it asks for fewer each time.
        units = decision.remaining().min(units.saturating_sub(1));
        if units == 0 {
            return Ok((refusal, 0, None));
        }
        decision = ask(units).await?;
    }
    if !decision.is_allowed() || units == 0 {
        return Ok((decision, 0, None));
    }
    let hold = hold(budget, key, units, &decision, ttl).await?;
    Ok((decision, units, Some(hold)))
}

impl Reservation {
    /// Reserves `n` units, all or none, or as many as fit if `is_partial`.
    pub(super) async fn new(
        budget: Arc<dyn Budget>,
        key: &[u8],
        n: u64,
        ttl: Duration,
        is_partial: bool,
        on_store_error: OnStoreError,
    ) -> Result<Self, StoreError> {
        let (decision, units, hold) = match reserve(&budget, key, n, ttl, is_partial).await {
            Err(_) if on_store_error == OnStoreError::Allow => {
                let hold: Box<dyn Hold> = Box::new(Undated::new(n, ttl, |_| ()));
                (Decision::allowed(n, n), n, Some(hold))
            }
            result => result?,
        };
        Ok(Self { key: key.into(), budget, hold, decision, units, spent: 0 })
    }

    /// Whether units were reserved, or none were asked for.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.decision.is_allowed()
    }

    /// The reserved units.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.units
    }

    /// The decision. If no unit was reserved, its wait is the time until all units that were asked for fit.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The units that are not spent.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.hold.as_ref().map_or(0, |hold| hold.left())
    }

    /// Declares that units are used now; call it before using them. It needs no I/O.
    ///
    /// Returns false, and spends none, if fewer units are left, or if the reservation's time is over.
    pub fn spend(&mut self, units: u64) -> bool {
        let is_spent = self.hold.as_mut().map_or(units == 0, |hold| hold.spend(units));
        self.spent += if is_spent { units } else { 0 };
        is_spent
    }

    /// Ends the reservation with the units that were used in all, including those that were spent.
    ///
    /// The rest of the reservation is free again. Units above it are decided like a new request, all or none. So are
    /// units that were not spent in time. Spent units stay charged, even if `actual` is lower.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] if the store cannot be reached. The reservation then ends in the background, or counts as spent.
    pub async fn commit(mut self, actual: u64) -> Result<Commit, StoreError> {
        let kept = actual.saturating_sub(self.spent).min(self.left());
        self.spend(kept);
        let (spent, more) = (self.spent, actual.saturating_sub(self.spent));
        if let Some(hold) = &mut self.hold {
            hold.end().await?;
        }
        let raise = match more {
            0 => None,
            more => Some(self.budget.decide(BudgetRequest::new(&self.key, more)).complete().await?),
        };
        Ok(Commit::new(spent, more, raise))
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("units", &self.units).field("left", &self.left()).finish_non_exhaustive()
    }
}

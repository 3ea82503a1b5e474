//! What Redis has refused, and for how long that is known here.

use super::purse::Terms;
use crate::decision::Decision;

/// A refusal that still holds.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Until when it is not asked again: counted from before the question was sent.
    pub(super) until: u64,
    /// When the request surely fits: counted from when the answer was there.
    pub(super) free_at: u64,
    pub(super) cost: u64,
    pub(super) rules: u64,
    pub(super) decision: Decision,
}

impl Refusal {
    /// Whether it stands without asking again, however much this clock lags.
    pub(super) fn holds(&self, now: u64, terms: &Terms) -> bool {
        now + terms.lag_ms < self.until
    }

    /// The refusal with what is left of its waits.
    pub(super) fn at(&self, now: u64, terms: &Terms) -> Decision {
        let retry_after_ms = self.free_at.saturating_sub(now).saturating_add(terms.lag_ms).max(1);
        let gone = self.decision.retry_after_ms.saturating_sub(retry_after_ms);
        let reset_after_ms = self.decision.reset_after_ms.saturating_sub(gone);
        Decision { retry_after_ms, reset_after_ms, ..self.decision }
    }
}

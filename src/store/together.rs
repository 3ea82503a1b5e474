use super::local;
use super::part::{Decisions, DecisionsResponse, Part, PendingDecisions};
#[cfg(feature = "_redis")]
use super::redis;
use super::reserve::reserve;

/// Decides on a request with several limits, and charges all of them or none.
///
/// Budgets of local stores are decided in one step: no other request sees a charge that is taken back. The same holds
/// for the budgets of one Redis store, if its server can reach all their keys in one script. Any other budgets are
/// charged one after the other, and refunded if one of them refuses. Until then, such a charge counts for other
/// requests.
///
/// With more than [`MAX_LIMITS`](super::MAX_LIMITS) parts, the request is refused as [unavailable](Decisions::is_unavailable).
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimiter;
/// use tower_weir::store::{BudgetRequest, DecisionsResponse, Part, Policy, Store, Strategy, decide_together};
///
/// let rl = RateLimiter::builder().build()?;
/// let client = rl.local().open(&Policy::new("client", ["2/min".parse()?], Strategy::Absolute))?;
/// let everyone = rl.local().open(&Policy::new("everyone", ["3/min".parse()?], Strategy::Absolute))?;
/// let ask = |who: &str| {
///     let parts = [
///         Part::new(&client, BudgetRequest::new(who.as_bytes(), 1)),
///         Part::new(&everyone, BudgetRequest::new(b"", 1)),
///     ];
///     match decide_together(&parts) {
///         DecisionsResponse::Ready(decisions) => decisions.is_allowed(),
///         DecisionsResponse::Pending(_) => unreachable!("a local store does no I/O"),
///     }
/// };
/// assert_eq!(["a", "a", "a", "a", "b", "b"].map(ask), [true, true, false, false, true, false]);
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[inline]
pub fn decide_together(parts: &[Part<'_>]) -> DecisionsResponse {
    let mut decisions = Decisions::default();
    match decide_into(parts, &mut decisions) {
        None => DecisionsResponse::Ready(decisions),
        Some(pending) => DecisionsResponse::Pending(pending),
    }
}

/// Does the same in place, because decisions are large. Without a future, they are complete.
pub(crate) fn decide_into(parts: &[Part<'_>], decisions: &mut Decisions) -> Option<PendingDecisions> {
    decisions.clear(parts.len());
    if decisions.is_unavailable() || local::decide_together(parts, decisions) {
        return None;
    }
    #[cfg(feature = "_redis")]
    match redis::decide_together(parts) {
        Some(DecisionsResponse::Pending(pending)) => return Some(pending),
        Some(DecisionsResponse::Ready(ready)) => {
            *decisions = ready;
            return None;
        }
        None => {}
    }
    reserve(parts, decisions)
}

use super::local;
use super::part::{Decisions, DecisionsResponse, MAX_LIMITS, Part};
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
/// With more than [`MAX_LIMITS`] parts, the request is refused as [unavailable](Decisions::is_unavailable).
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
    if parts.len() > MAX_LIMITS {
        return DecisionsResponse::Ready(Decisions::unavailable());
    }
    if let Some(decisions) = local::decide_together(parts) {
        return DecisionsResponse::Ready(decisions);
    }
    #[cfg(feature = "_redis")]
    if let Some(response) = redis::decide_together(parts) {
        return response;
    }
    reserve(parts)
}

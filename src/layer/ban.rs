//! The ban of one limit: it counts the refusals of a key, and refuses the key for a time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::tier::Tier;
use crate::decision::Decision;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Budget, BudgetRequest, BudgetResponse, Store};

/// A ban that is in use.
pub(super) struct BuiltBan {
    /// It has no room while one unit of a key is in use, and that unit is the key's ban. Requests cost it nothing.
    pub(super) tier: Tier,
    /// The refusals of a key; `None` for a manual ban.
    pub(super) strikes: Option<Arc<dyn Budget>>,
    pub(super) lasting: Duration,
    pub(super) store: Arc<dyn Store>,
}

/// A refusal that is being counted. If a ban begins, the result is its decision.
pub(super) type Strike = Pin<Box<dyn Future<Output = Option<Decision>> + Send>>;

impl BuiltBan {
    /// Counts a refusal of a key. Without a future, it is counted, and no ban begins.
    pub(super) fn strike(self: &Arc<Self>, key: &[u8]) -> Option<Strike> {
        match self.strikes.as_ref()?.decide(BudgetRequest::new(key, 1)) {
            BudgetResponse::Ready(counted) if !counted.as_ref().is_ok_and(begins) => None,
            response => {
                let (ban, key) = (Arc::clone(self), Box::<[u8]>::from(key));
                // The request is refused in any case, so a failure of the store changes nothing for it.
                Some(Box::pin(async move { ban.begin_if_due(&key, response).await.ok().flatten() }))
            }
        }
    }

    /// Counts refusals of a key. Returns the decision of the ban if it begins.
    pub(super) async fn penalise(&self, key: &[u8], refusals: u64) -> Result<Option<Decision>, StoreError> {
        let strikes = self.strikes.as_ref().ok_or_else(|| misused("a manual ban counts no refusals"))?;
        self.begin_if_due(key, strikes.decide(BudgetRequest::new(key, refusals))).await
    }

    async fn begin_if_due(&self, key: &[u8], counted: BudgetResponse) -> Result<Option<Decision>, StoreError> {
        if !begins(&counted.complete().await?) {
            return Ok(None);
        }
        self.block(key, self.lasting).await?;
        self.peek(key).await.map(Some)
    }

    /// The decision on any request of a key.
    pub(super) async fn peek(&self, key: &[u8]) -> Result<Decision, StoreError> {
        self.tier.budget.peek(BudgetRequest::new(key, 0)).complete().await
    }

    /// Bans a key for a time, which is at most that of a ban.
    pub(super) async fn block(&self, key: &[u8], time: Duration) -> Result<(), StoreError> {
        if time.is_zero() {
            return self.unblock(key).await;
        }
        let age = self.lasting.checked_sub(time).ok_or_else(|| {
            misused(format!("the ban of this limit lasts at most {:?}; write that or less", self.lasting))
        })?;
        self.tier.budget.set(key, 1, age).await?;
        self.forget_strikes(key).await
    }

    /// Ends the ban of a key, and forgets its refusals.
    pub(super) async fn unblock(&self, key: &[u8]) -> Result<(), StoreError> {
        self.tier.budget.set(key, 0, Duration::ZERO).await?;
        self.forget_strikes(key).await
    }

    async fn forget_strikes(&self, key: &[u8]) -> Result<(), StoreError> {
        match &self.strikes {
            Some(strikes) => strikes.set(key, 0, Duration::ZERO).await,
            None => Ok(()),
        }
    }
}

/// The error of a call that needs a ban, on a limit without one.
pub(super) fn no_ban() -> StoreError {
    misused("this limit has no ban; write .ban(\"20 in 1h for 1d\") or .ban(Ban::manual()) on it")
}

fn misused(message: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::NotConfigured, message)
}

/// Whether a counted refusal begins a ban: no further one fits.
fn begins(counted: &Decision) -> bool {
    !counted.is_allowed() || counted.remaining() == 0
}

impl fmt::Debug for BuiltBan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltBan").field("policy", self.tier.rendered.policy()).finish_non_exhaustive()
    }
}

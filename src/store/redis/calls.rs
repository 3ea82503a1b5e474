//! The engine's calls on a Redis store.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::state::{Shared, Wanted};
use crate::correction::{HistoryPreservation, RateLimitComparator, SetOutcome};
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::{Limit, SetMode};
use crate::error::StoreError;
use crate::policy::OnStoreError;
use crate::quota::RateLimit;
use crate::script::Mode;
use crate::strategy::{Absolute, StrategyKind, Suppressed};

/// Limits in Redis, by one strategy.
///
/// [`RedisStore::absolute`](crate::store::RedisStore::absolute) and
/// [`RedisStore::suppressed`](crate::store::RedisStore::suppressed) return it. The calls have the same meaning as those
/// of [`LocalLimits`](crate::store::LocalLimits), for all instances that share the server and the prefix. Each call
/// takes one round trip and ends within the deadline, except for [`clear`](Self::clear).
///
/// The calls run on tokio if a tokio runtime runs the caller. Elsewhere they need the feature `redis-smol`.
///
/// # Examples
///
/// ```no_run
/// use tower_weir::{RateLimit, RateLimitDecision, RateLimiter};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let rl = RateLimiter::builder().redis_url("redis://127.0.0.1:6379").build()?;
/// let rate = RateLimit::try_from(0.1)?; // 6 in any minute
/// let logins = rl.redis().absolute();
/// match logins.inc("alice", &rate, 1).await? {
///     RateLimitDecision::Rejected { retry_after_ms, .. } => println!("try again in {retry_after_ms} ms"),
///     _ => println!("{} of 6 tries used", logins.get("alice").await?),
/// }
/// logins.delete("alice").await?; // she remembered her password
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// A [`StoreError`] if Redis cannot decide. [`inc`](Self::inc) and [`decide`](Self::decide) then follow
/// [`RedisOptions::on_store_error`](crate::RedisOptions::on_store_error), and return an error only with
/// [`Reject`](OnStoreError::Reject). [`Decision::is_local_share`] shows that this instance decided alone. The other
/// calls return the error in any case. If the limiter was built without Redis, every call returns an error.
///
/// # Cancellation
///
/// A call that is dropped, or misses the deadline, may have had its effect anyway.
#[must_use]
pub struct RedisLimits<'a, K> {
    shared: Option<&'a Arc<Shared>>,
    kind: PhantomData<K>,
}

impl<'a, K: StrategyKind> RedisLimits<'a, K> {
    pub(super) fn new(shared: Option<&'a Arc<Shared>>) -> Self {
        Self { shared, kind: PhantomData }
    }

    /// Asks for `n` units and charges them if they are admitted, all or none.
    ///
    /// With `n` = 0 it charges nothing and changes nothing.
    pub async fn inc(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<RateLimitDecision, StoreError> {
        self.decide(key, rate, n).await.map(Into::into)
    }

    /// Like [`inc`](Self::inc), but returns all figures of the decision.
    pub async fn decide(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<Decision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let mode = if K::IS_SUPPRESSED { Mode::Suppressed } else { Mode::Absolute };
        let wanted = Wanted { key: key.as_ref(), cost: n, limits: &limits, mode };
        match shared.decide(&shared.main, &wanted).complete().await {
            Err(_) if shared.client.on_store_error == OnStoreError::Allow => {
                Ok(Decision::allowed(limits[0].capacity, 0))
            }
            result => result,
        }
    }

    /// Returns whether one unit would be admitted, and charges nothing.
    ///
    /// In the band of the suppressed strategy, a request may be admitted or shed. The method then returns
    /// `Suppressed { is_allowed: true, .. }`, because some of these requests are admitted.
    pub async fn is_allowed(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> Result<RateLimitDecision, StoreError> {
        if K::IS_SUPPRESSED {
            return self.factor(key.as_ref(), rate).await.map(RateLimitDecision::at_factor);
        }
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        Ok(shared.client.look(&shared.main.keys.space, key.as_ref(), 1, &limits).await?.into())
    }

    /// The units that the key has used in the window.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let shared = self.shared()?;
        // Without a cost, no limit refuses, so any limit over the window is sufficient.
        let limits = [shared.client.geometry.limit_of(1)];
        Ok(shared.client.look(&shared.main.keys.space, key.as_ref(), 0, &limits).await?.used)
    }

    /// Sets the key's total to `count`, dated now, if the comparator holds for the current total.
    ///
    /// The rate is part of the signature that all stores share. The method checks no limit, so `count` may be above it.
    /// It is capped at 2^39. A lower total ends the shedding of the suppressed strategy. A total of 0 forgets the key,
    /// as [`delete`](Self::delete) does.
    pub async fn set_if(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
    ) -> Result<SetOutcome, StoreError> {
        self.set(key.as_ref(), rate, comparator, count, SetMode::Replace { age: 0 }).await
    }

    /// Like [`set_if`](Self::set_if), but keeps as much of the history as fits into `count`.
    pub async fn set_if_preserve_history(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
        which: HistoryPreservation,
    ) -> Result<SetOutcome, StoreError> {
        self.set(key.as_ref(), rate, comparator, count, which.into()).await
    }

    async fn set(
        &self,
        key: &[u8],
        _rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
        mode: SetMode,
    ) -> Result<SetOutcome, StoreError> {
        let shared = self.shared()?;
        Ok(shared.set(&shared.main.keys, key, comparator, (count, mode)).await?)
    }

    /// Forgets the key. Returns the units that it had used in the window, or `None` if it was unknown.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, StoreError> {
        let shared = self.shared()?;
        let corrected = shared.forget(&shared.main, key.as_ref()).await?;
        Ok(corrected.done.then_some(corrected.before))
    }

    /// Forgets every key of the engine's calls. The limits that layers opened keep their keys.
    ///
    /// It scans all keys of the database in steps, and has no deadline. On a cluster, it scans every master. Over a
    /// connection that you made, it reaches the keys of one server.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let shared = self.shared()?;
        shared.clear(&shared.main.keys).await?;
        if let Some(share) = &shared.main.share {
            share.clear();
        }
        Ok(())
    }

    async fn factor(&self, key: &[u8], rate: &RateLimit) -> Result<f64, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        Ok(shared.client.factor(&shared.main.keys.space, key, &limits).await?)
    }

    pub(super) fn limits(shared: &Shared, rate: &RateLimit) -> Arc<[Limit]> {
        Arc::new([shared.client.geometry.limit(rate, K::IS_SUPPRESSED)])
    }

    pub(super) fn shared(&self) -> Result<&'a Arc<Shared>, StoreError> {
        self.shared.ok_or_else(StoreError::no_redis)
    }
}

impl RedisLimits<'_, Absolute> {
    /// Returns whether `n` units would be admitted now, and charges nothing.
    ///
    /// Another request may take the units before your next call.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] if Redis does not answer.
    pub async fn would_allow(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
    ) -> Result<RateLimitDecision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        Ok(shared.client.look(&shared.main.keys.space, key.as_ref(), n, &limits).await?.into())
    }
}

impl RedisLimits<'_, Suppressed> {
    /// The part of the demand that would be shed now: 0 below the limit, and 1 at the hard cap.
    pub async fn get_suppression_factor(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> Result<f64, StoreError> {
        self.factor(key.as_ref(), rate).await
    }
}

impl<K> Clone for RedisLimits<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for RedisLimits<'_, K> {}

impl<K> fmt::Debug for RedisLimits<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits").finish_non_exhaustive()
    }
}

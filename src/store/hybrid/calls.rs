//! The engine's calls on a hybrid store.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::state::{Shared, Usage, Wanted};
use super::sync;
use crate::correction::{HistoryPreservation, RateLimitComparator, SetOutcome};
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::{Limit, SetMode};
use crate::error::StoreError;
use crate::lease::{KeyState, LimitSet, OwnedLimitSet, limits_id};
use crate::policy::OnStoreError;
use crate::quota::RateLimit;
use crate::redis::OnDrop;
use crate::strategy::{Absolute, StrategyKind, Suppressed};

/// Limits in Redis with decisions from memory, with one strategy.
///
/// [`HybridStore::absolute`](crate::store::HybridStore::absolute) and
/// [`HybridStore::suppressed`](crate::store::HybridStore::suppressed) return it. The calls have the same meaning as
/// those of [`RedisLimits`](crate::store::RedisLimits).
///
/// If a lease covers a request, or a known refusal applies, the decision needs no wait and no allocation. Otherwise it
/// takes at most one round trip and ends within the deadline. [`get_estimate`](Self::get_estimate) never waits.
///
/// For decisions from a lease, `used` and `remaining` reflect the last reply and this instance's later requests. Units
/// that other instances hold count as used.
///
/// # Errors and cancellation
///
/// The same as for [`RedisLimits`](crate::store::RedisLimits).
///
/// With [`OnStoreError::LocalShare`], a request can be charged twice if its call reaches Redis but misses the deadline.
/// The call charges it, and the local share also charges it and reports its units. Until the extra units leave the
/// window, other requests can be rejected although capacity is free.
#[must_use]
pub struct HybridLimits<'a, K> {
    shared: Option<&'a Arc<Shared>>,
    kind: PhantomData<K>,
}

impl<'a, K: StrategyKind> HybridLimits<'a, K> {
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
        let wanted = Self::wanted(shared, key.as_ref(), n, &limits);
        match shared.decide(&shared.main, &wanted, || Self::own(shared, &limits)).complete().await {
            Err(_) if shared.on_store_error == OnStoreError::Allow => Ok(Decision::allowed(limits[0].capacity, 0)),
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
        let (now, set) = (shared.time.now_ms(), Self::limit_set(&limits));
        let known = |state: &mut KeyState| state.peek(now, &set, &shared.params);
        if let Some(Some(decision)) = shared.main.with(shared.main.fingerprint(key.as_ref()), known) {
            return Ok(decision.into());
        }
        let own = Self::own(shared, &limits);
        let decision = shared.redis.look(&shared.main.keys, key.as_ref(), 1, &own.scaled).await?;
        Ok(own.unscale(decision).into())
    }

    /// Like [`inc`](Self::inc), but never waits. Returns the decision if this instance can make it at once, otherwise
    /// `None`.
    ///
    /// The decision uses a lease or a known refusal. `None` charges nothing, and [`inc`](Self::inc) can then decide.
    /// The method charges at most once, and needs no runtime.
    ///
    /// # Errors
    ///
    /// Only if the limiter was built without Redis.
    pub fn try_inc(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
    ) -> Result<Option<RateLimitDecision>, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let wanted = Self::wanted(shared, key.as_ref(), n, &limits);
        let (_, decided) = shared.decide_at_once(&shared.main, &wanted);
        if let Some((_, Some(low))) = decided {
            shared.renew_early(&shared.main.key_ref(key.as_ref()), low);
        }
        Ok(decided.map(|(decision, _)| decision.into()))
    }

    /// The units that the key has used in the window, plus those that other instances hold. It is never less than the
    /// units used.
    ///
    /// This instance first returns the units that it holds. See [`usage`](Self::usage) for both figures, and
    /// [`get_estimate`](Self::get_estimate) for an answer without I/O.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let usage = self.usage(key).await?;
        Ok(usage.used + usage.held)
    }

    /// The units that the key has used in the window, and separately those that other instances hold.
    ///
    /// This instance first returns the units that it holds. Other instances report their spent units within slightly
    /// more than two sync intervals. Until then these units count as held. The instances return the units that they do
    /// not spend.
    pub async fn usage(&self, key: impl AsRef<[u8]>) -> Result<Usage, StoreError> {
        let shared = self.shared()?;
        shared.give_back_key(&shared.main, key.as_ref()).await?;
        let reply = sync::peek(shared, &shared.main, key.as_ref()).await?;
        Ok(Usage { used: reply.used.saturating_sub(reply.held), held: reply.held })
    }

    /// The units that the key has used in the window, as far as this instance knows. They include the last reply of
    /// Redis and this instance's later units. It is 0 for an unknown key. The method never waits.
    ///
    /// # Errors
    ///
    /// Only if the limiter was built without Redis.
    pub fn get_estimate(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let shared = self.shared()?;
        let estimate = |state: &mut KeyState| state.estimate(shared.time.now_ms(), &shared.params);
        Ok(shared.main.with(shared.main.fingerprint(key.as_ref()), estimate).unwrap_or(0))
    }

    /// Sets the key's total to `count`, dated now, if the comparator holds for the current total.
    ///
    /// The rate is part of the signature that all stores share. The method checks no limit, so `count` may be above it.
    /// It is capped at 2^39. Other instances keep the units that they hold, so the total may stay above `count` until
    /// they report.
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
        Ok(shared.set(&shared.main, key, comparator, (count, mode)).await?)
    }

    /// Forgets the key. Returns the units that it had used in the window, or `None` if it was unknown.
    ///
    /// Other instances keep the units that they hold, and these count when the instances report them.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, StoreError> {
        let shared = self.shared()?;
        let corrected = shared.forget(&shared.main, key.as_ref()).await?;
        Ok(corrected.done.then_some(corrected.before))
    }

    /// Forgets every key of the engine's calls. The limits that layers opened keep their keys.
    ///
    /// It scans all keys of the database in steps, and has no deadline. On a cluster, it scans every master. Other
    /// instances resubmit their own admissions, as after a loss of data. Call it on each instance, or
    /// [`delete`](Self::delete) single keys.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let shared = self.shared()?;
        let _changed = OnDrop(|| {
            let now = shared.time.now_ms();
            shared.main.each(|state| {
                state.forget(now, &shared.params);
                state.clear_epoch();
            });
        });
        Ok(shared.redis.clear(&shared.main.keys).await?)
    }

    async fn factor(&self, key: &[u8], rate: &RateLimit) -> Result<f64, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let (now, set) = (shared.time.now_ms(), Self::limit_set(&limits));
        if let Some(Some(ratio)) = shared.main.with(shared.main.fingerprint(key), |state| state.ratio(now, &set)) {
            return Ok((1.0 - ratio).clamp(0.0, 1.0));
        }
        let own = Self::own(shared, &limits);
        Ok(shared.redis.factor(&shared.main.keys, key, &own.scaled).await?)
    }

    pub(super) fn limits(shared: &Shared, rate: &RateLimit) -> [Limit; 1] {
        [shared.redis.geometry.limit(rate, K::IS_SUPPRESSED)]
    }

    fn limit_set(limits: &[Limit]) -> LimitSet<'_> {
        LimitSet { limits, is_suppressed: K::IS_SUPPRESSED, limits_id: limits_id(limits, K::IS_SUPPRESSED) }
    }

    pub(super) fn wanted<'w>(shared: &Shared, key: &'w [u8], cost: u64, limits: &'w [Limit]) -> Wanted<'w> {
        let (limits, on_store_error) = (Self::limit_set(limits), shared.on_store_error);
        Wanted { key, cost, limits, on_store_error, is_leased: true }
    }

    pub(super) fn own(shared: &Shared, limits: &[Limit]) -> OwnedLimitSet {
        OwnedLimitSet::new(limits.into(), K::IS_SUPPRESSED, shared.tolerance)
    }

    pub(super) fn shared(&self) -> Result<&'a Arc<Shared>, StoreError> {
        self.shared.ok_or_else(StoreError::no_redis)
    }
}

impl HybridLimits<'_, Absolute> {
    /// Returns whether `n` units would be admitted now, and charges nothing.
    ///
    /// Another request may take the units before your next call.
    ///
    /// This instance first returns the units that it holds.
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
        let (shared, key) = (self.shared()?, key.as_ref());
        shared.give_back_key(&shared.main, key).await?;
        let own = Self::own(shared, &Self::limits(shared, rate));
        let decision = shared.redis.look(&shared.main.keys, key, n, &own.scaled).await?;
        Ok(own.unscale(decision).into())
    }
}

impl HybridLimits<'_, Suppressed> {
    /// The part of the demand that would be shed now: 0 below the limit, and 1 at the hard cap.
    pub async fn get_suppression_factor(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> Result<f64, StoreError> {
        self.factor(key.as_ref(), rate).await
    }
}

impl<K> Clone for HybridLimits<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for HybridLimits<'_, K> {}

impl<K> fmt::Debug for HybridLimits<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridLimits").finish_non_exhaustive()
    }
}

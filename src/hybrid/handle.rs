//! The engine's calls on a hybrid store.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::purse::{Purse, Rules};
use super::settling::{OwnRules, digest};
use super::{Hybrid, Shared, Wanted};
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::{Limit, SetMode};
use crate::error::StoreError;
use crate::limiter::{HistoryPreservation, RateLimitComparator, SetOutcome};
use crate::quota::RateLimit;
use crate::redis::Finally;
use crate::redis::script::Correction;
use crate::store::{Answer, OnStoreError};
use crate::strategy::{StrategyKind, Suppressed};

/// Limits in Redis that are decided on in memory, by one strategy.
///
/// [`Hybrid::absolute`] and [`Hybrid::suppressed`] give it. The calls are those of
/// [`RedisLimits`](crate::RedisLimits), with the same meaning. What a lease covers, and what is known to be
/// refused, is decided without waiting and without an allocation; the rest takes a round trip at most and ends
/// within the deadline. [`get_estimate`](Self::get_estimate) never waits.
///
/// Decisions from a lease tell `used` and `remaining` as of the last answer and this instance's own requests
/// since. Units that other instances hold count as used.
///
/// # Errors and cancellation
///
/// As for [`RedisLimits`](crate::RedisLimits).
#[must_use]
pub struct HybridLimits<'a, K> {
    hybrid: &'a Hybrid,
    kind: PhantomData<K>,
}

impl<'a, K: StrategyKind> HybridLimits<'a, K> {
    pub(super) fn new(hybrid: &'a Hybrid) -> Self {
        Self { hybrid, kind: PhantomData }
    }

    /// Asks for `n` units and charges them if they are admitted, all or none.
    ///
    /// With `n` of 0 it only looks, and changes nothing.
    pub async fn inc(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<RateLimitDecision, StoreError> {
        self.decide(key, rate, n).await.map(Into::into)
    }

    /// Like [`inc`](Self::inc), and tells all that the decision knows.
    pub async fn decide(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<Decision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let wanted =
            Wanted { key: key.as_ref(), cost: n, rules: Self::rules(&limits), on_store_error: shared.on_store_error };
        let result = match shared.decide(&shared.main, &wanted, || Self::own(shared, &limits)) {
            Answer::Ready(result) => result,
            Answer::Pending(pending) => pending.await,
        };
        match result {
            Err(_) if shared.on_store_error == OnStoreError::Admit => Ok(Decision::allowed(limits[0].capacity, 0)),
            result => result,
        }
    }

    /// Says whether one unit would be admitted, and charges nothing.
    ///
    /// In the suppressed strategy a request in the band may pass or not; it is told as
    /// `Suppressed { is_allowed: true, .. }`, since some of such requests do pass.
    pub async fn is_allowed(&self, key: impl AsRef<[u8]>, rate: &RateLimit) -> Result<RateLimitDecision, StoreError> {
        if K::IS_SUPPRESSED {
            return self.factor(key.as_ref(), rate).await.map(RateLimitDecision::at_factor);
        }
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let (now, rules) = (shared.time.now_ms(), Self::rules(&limits));
        let known = |purse: &mut Purse| purse.look(now, &rules, &shared.terms);
        if let Some(Some(decision)) = shared.main.with(shared.main.print(key.as_ref()), known) {
            return Ok(decision.into());
        }
        let own = Self::own(shared, &limits);
        let decision = shared.redis.look(&shared.main.keys, key.as_ref(), 1, &own.scaled).await?;
        Ok(own.told(decision).into())
    }

    /// The units that the key has used in the window, with those that other instances hold.
    ///
    /// What this instance holds goes back before. See [`get_estimate`](Self::get_estimate) for one without I/O.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let shared = self.shared()?;
        self.give_back(shared, key.as_ref()).await?;
        // Any limit over the window does: without a cost it refuses nothing.
        let limits = [shared.redis.scale.limit_of(1)];
        Ok(shared.redis.look(&shared.main.keys, key.as_ref(), 0, &limits).await?.used)
    }

    /// The units that the key has used in the window, as far as this instance knows: as of the last answer of
    /// Redis, and its own since. 0 for a key that it does not know.
    ///
    /// # Errors
    ///
    /// Only where the limiter was built without Redis.
    pub fn get_estimate(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let shared = self.shared()?;
        Ok(shared.main.with(shared.main.print(key.as_ref()), |purse| purse.estimate()).unwrap_or(0))
    }

    /// Sets the key's total to `count`, stamped now, if the comparator holds for what it is.
    ///
    /// The rate is part of the signature that all stores share; no limit is checked, and `count` may be
    /// above it. It is capped at 2^39. Units that other instances hold stay theirs, so the total may stay above
    /// `count` until they have reported.
    pub async fn set_if(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        comparator: RateLimitComparator,
        count: u64,
    ) -> Result<SetOutcome, StoreError> {
        self.set(key.as_ref(), rate, comparator, count, SetMode::Replace).await
    }

    /// Like [`set_if`](Self::set_if), and keeps as much of the history as `count` has room for.
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
        self.give_back(shared, key).await?;
        // Even where no answer came, or nobody waited for it, it may have been done.
        let _changed = Finally(|| {
            shared.main.with(shared.main.print(key), Purse::outdate);
        });
        let set = Correction::Set { comparator, count, mode };
        let corrected = shared.redis.correct(&shared.main.keys, key, set).await?;
        let (previous_total, current_total) = (corrected.before, corrected.after);
        Ok(SetOutcome { matched: corrected.done, previous_total, current_total })
    }

    /// Forgets the key; returns the units that it had used in the window, if it was known.
    ///
    /// Units that other instances hold stay theirs, and are counted when they report them.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, StoreError> {
        let shared = self.shared()?;
        let key = key.as_ref();
        self.give_back(shared, key).await?;
        let _changed = Finally(|| {
            let now = shared.time.now_ms();
            shared.main.with(shared.main.print(key), |purse| purse.forget(now, &shared.terms));
        });
        let corrected = shared.redis.correct(&shared.main.keys, key, Correction::Delete).await?;
        Ok(corrected.done.then_some(corrected.before))
    }

    /// Forgets every key of the engine's calls; the limits that layers opened keep theirs.
    ///
    /// It looks through all keys of the database, on a cluster of every master, in steps, and has no deadline.
    /// Other instances bring back what they have admitted themselves, as after a loss of data: call it on each,
    /// or [`delete`](Self::delete) single keys.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let shared = self.shared()?;
        let _changed = Finally(|| {
            let now = shared.time.now_ms();
            shared.main.each(|purse| {
                purse.forget(now, &shared.terms);
                purse.disown();
            });
        });
        Ok(shared.redis.clear(&shared.main.keys).await?)
    }

    async fn factor(&self, key: &[u8], rate: &RateLimit) -> Result<f64, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let (now, rules) = (shared.time.now_ms(), Self::rules(&limits));
        if let Some(Some(ratio)) = shared.main.with(shared.main.print(key), |purse| purse.ratio(now, &rules)) {
            return Ok((1.0 - ratio).clamp(0.0, 1.0));
        }
        let own = Self::own(shared, &limits);
        Ok(shared.redis.factor(&shared.main.keys, key, &own.scaled).await?)
    }

    /// Lets Redis have back what this instance holds of a key.
    async fn give_back(&self, shared: &Arc<Shared>, key: &[u8]) -> Result<(), StoreError> {
        let print = shared.main.print(key);
        let visit = |purse: &mut Purse| {
            purse.can_return().then(|| shared.begin(&shared.main, print, purse, &shared.no_rules(), false))
        };
        if let Some(Some(settling)) = shared.main.with(print, visit) {
            settling.fly().await?;
        }
        Ok(())
    }

    fn limits(shared: &Shared, rate: &RateLimit) -> [Limit; 1] {
        [shared.redis.scale.limit(rate, K::IS_SUPPRESSED)]
    }

    fn rules(limits: &[Limit]) -> Rules<'_> {
        Rules { limits, is_suppressed: K::IS_SUPPRESSED, digest: digest(limits, K::IS_SUPPRESSED) }
    }

    fn own(shared: &Shared, limits: &[Limit]) -> OwnRules {
        OwnRules::new(limits.into(), K::IS_SUPPRESSED, shared.tolerance)
    }

    fn shared(&self) -> Result<&'a Arc<Shared>, StoreError> {
        self.hybrid.0.as_ref().ok_or_else(StoreError::no_redis)
    }
}

impl HybridLimits<'_, Suppressed> {
    /// The part of the demand that would be turned away now: 0 below the limit, 1 at the hard cap.
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

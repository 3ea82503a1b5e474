//! The engine's calls on a hybrid store.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::state::{Shared, Usage, Wanted};
use super::sync::{self, SyncOp};
use crate::correction::{HistoryPreservation, RateLimitComparator, SetOutcome};
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::{Limit, SetMode};
use crate::error::StoreError;
use crate::lease::{KeyState, LimitSet, OwnedLimitSet, limits_id};
use crate::policy::OnStoreError;
use crate::quota::RateLimit;
use crate::redis::OnDrop;
use crate::script::Correction;
use crate::store::budget::BudgetResponse;
use crate::strategy::{Absolute, StrategyKind, Suppressed};

/// Limits in Redis that are decided on in memory, by one strategy.
///
/// [`HybridStore::absolute`](crate::store::HybridStore::absolute) and [`HybridStore::suppressed`](crate::store::HybridStore::suppressed) give it. The calls are those of
/// [`RedisLimits`](crate::store::RedisLimits), with the same meaning. What a lease covers, and what is known to be
/// refused, is decided without waiting and without an allocation; the rest takes a round trip at most and ends
/// within the deadline. [`get_estimate`](Self::get_estimate) never waits.
///
/// Decisions from a lease tell `used` and `remaining` as of the last answer and this instance's own requests
/// since. Units that other instances hold count as used.
///
/// # Errors and cancellation
///
/// As for [`RedisLimits`](crate::store::RedisLimits).
///
/// With [`OnStoreError::LocalShare`], a request can be charged twice if its call reaches Redis but misses the deadline:
/// once by the call, and once by the local share, which decides instead and reports its units. Until the extra units
/// leave the window, other requests can be rejected although capacity is free.
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
    /// With `n` of 0 it only looks, and changes nothing.
    pub async fn inc(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<RateLimitDecision, StoreError> {
        self.decide(key, rate, n).await.map(Into::into)
    }

    /// Like [`inc`](Self::inc), and tells all that the decision knows.
    pub async fn decide(&self, key: impl AsRef<[u8]>, rate: &RateLimit, n: u64) -> Result<Decision, StoreError> {
        let shared = self.shared()?;
        let limits = Self::limits(shared, rate);
        let wanted = Self::wanted(shared, key.as_ref(), n, &limits);
        let result = match shared.decide(&shared.main, &wanted, || Self::own(shared, &limits)) {
            BudgetResponse::Ready(result) => result,
            BudgetResponse::Pending(pending) => pending.await,
        };
        match result {
            Err(_) if shared.on_store_error == OnStoreError::Allow => Ok(Decision::allowed(limits[0].capacity, 0)),
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
        let (now, set) = (shared.time.now_ms(), Self::limit_set(&limits));
        let known = |state: &mut KeyState| state.peek(now, &set, &shared.params);
        if let Some(Some(decision)) = shared.main.with(shared.main.fingerprint(key.as_ref()), known) {
            return Ok(decision.into());
        }
        let own = Self::own(shared, &limits);
        let decision = shared.redis.look(&shared.main.keys, key.as_ref(), 1, &own.scaled).await?;
        Ok(own.unscale(decision).into())
    }

    /// Like [`inc`](Self::inc) without waiting: the decision, if this instance can make it at once, else nothing.
    ///
    /// It is made from a lease or by a refusal that is known. Nothing is charged where it says nothing, and
    /// [`inc`](Self::inc) then decides. It charges once at most, and needs no runtime.
    ///
    /// # Errors
    ///
    /// Only where the limiter was built without Redis.
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

    /// The units that the key has used in the window, with those that other instances hold: never less than is used.
    ///
    /// What this instance holds goes back before. See [`usage`](Self::usage) for the two figures apart, and
    /// [`get_estimate`](Self::get_estimate) for an answer without I/O.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let usage = self.usage(key).await?;
        Ok(usage.used + usage.held)
    }

    /// The units that the key has used in the window, and apart from them those that other instances hold.
    ///
    /// What this instance holds goes back before. Other instances report what they have spent within two sync
    /// intervals or a little more, and until then it counts as held. What they do not spend comes back.
    pub async fn usage(&self, key: impl AsRef<[u8]>) -> Result<Usage, StoreError> {
        let shared = self.shared()?;
        self.give_back(shared, key.as_ref()).await?;
        let reply = sync::peek(shared, &shared.main, key.as_ref()).await?;
        Ok(Usage { used: reply.used.saturating_sub(reply.held), held: reply.held })
    }

    /// The units that the key has used in the window, as far as this instance knows: by the last answer of
    /// Redis, and its own since. 0 for a key that it does not know. It never waits.
    ///
    /// # Errors
    ///
    /// Only where the limiter was built without Redis.
    pub fn get_estimate(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        let shared = self.shared()?;
        let estimate = |state: &mut KeyState| state.estimate(shared.time.now_ms(), &shared.params);
        Ok(shared.main.with(shared.main.fingerprint(key.as_ref()), estimate).unwrap_or(0))
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
        let changed = OnDrop(|| {
            shared.main.with(shared.main.fingerprint(key), KeyState::invalidate);
        });
        let set = Correction::Set { comparator, count, mode };
        let corrected = shared.redis.correct(&shared.main.keys, key, set).await?;
        let (previous_total, current_total) = (corrected.before, corrected.after);
        let now = shared.time.now_ms();
        drop(changed);
        shared.main.with(shared.main.fingerprint(key), |state| state.record_total(now, current_total, &shared.params));
        Ok(SetOutcome { matched: corrected.done, previous_total, current_total })
    }

    /// Forgets the key; returns the units that it had used in the window, if it was known.
    ///
    /// Units that other instances hold stay theirs, and are counted when they report them.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, StoreError> {
        let shared = self.shared()?;
        let key = key.as_ref();
        self.give_back(shared, key).await?;
        let _changed = OnDrop(|| {
            let now = shared.time.now_ms();
            shared.main.with(shared.main.fingerprint(key), |state| state.forget(now, &shared.params));
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

    /// Lets Redis have back what this instance holds of a key.
    async fn give_back(&self, shared: &Arc<Shared>, key: &[u8]) -> Result<(), StoreError> {
        let key = shared.main.key_ref(key);
        let visit = |state: &mut KeyState| {
            state.can_return().then(|| SyncOp::start(shared, &key, state, &shared.any_limits(), false))
        };
        if let Some(sync) = key.with(visit).flatten() {
            sync.wait(shared.redis.dispatcher.deadline()).await?;
        }
        Ok(())
    }

    fn limits(shared: &Shared, rate: &RateLimit) -> [Limit; 1] {
        [shared.redis.geometry.limit(rate, K::IS_SUPPRESSED)]
    }

    fn limit_set(limits: &[Limit]) -> LimitSet<'_> {
        LimitSet { limits, is_suppressed: K::IS_SUPPRESSED, limits_id: limits_id(limits, K::IS_SUPPRESSED) }
    }

    fn wanted<'w>(shared: &Shared, key: &'w [u8], cost: u64, limits: &'w [Limit]) -> Wanted<'w> {
        Wanted { key, cost, limits: Self::limit_set(limits), on_store_error: shared.on_store_error }
    }

    fn own(shared: &Shared, limits: &[Limit]) -> OwnedLimitSet {
        OwnedLimitSet::new(limits.into(), K::IS_SUPPRESSED, shared.tolerance)
    }

    fn shared(&self) -> Result<&'a Arc<Shared>, StoreError> {
        self.shared.ok_or_else(StoreError::no_redis)
    }
}

impl HybridLimits<'_, Absolute> {
    /// Says whether `n` units would be admitted at once, and charges nothing.
    ///
    /// The answer is as old as the call: another request may take the units before the next one.
    ///
    /// What this instance holds goes back before.
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
        self.give_back(shared, key).await?;
        let own = Self::own(shared, &Self::limits(shared, rate));
        let decision = shared.redis.look(&shared.main.keys, key, n, &own.scaled).await?;
        Ok(own.unscale(decision).into())
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

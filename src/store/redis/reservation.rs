//! Reservations of a Redis store: the engine's calls for costs that are known only afterwards.

use std::sync::Arc;
use std::time::Duration;

use super::calls::RedisLimits;
use super::redis_store::RedisBudget;
use crate::error::StoreError;
use crate::policy::Policy;
use crate::quota::RateLimit;
use crate::store::budget::Budget;
use crate::store::reservation::Reservation;
use crate::strategy::{Absolute, Strategy};

impl RedisLimits<'_, Absolute> {
    /// Reserves `n` units, all or none, for a cost that is known only afterwards.
    ///
    /// The units count from now on, so other requests cannot use them. [`spend`](Reservation::spend) declares units
    /// before they are used, and [`commit`](Reservation::commit) ends the reservation with the real cost. A spent unit
    /// counts for a window from the instant at which it was spent. So no window exceeds the limit, however long the work
    /// takes, and whichever process dies.
    ///
    /// Units can be spent for `ttl`, at most 30 minutes. Afterwards the rest is free again. If this process dies, the
    /// rest counts as spent at the end of that time, and is free a window later.
    ///
    /// It takes two round trips. A key has at most 1024 reservations at a time; if there are more, this one has no units
    /// to spend.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tower_weir::{RateLimit, RateLimiter};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let rl = RateLimiter::builder().redis_url("redis://127.0.0.1:6379").build()?;
    /// let (tokens, rate) = (rl.redis().absolute(), RateLimit::try_from(100.0)?); // 6000 in any minute
    /// let answer = tokens.reserve("alice", &rate, 500, Duration::from_secs(30)).await?;
    /// if answer.is_granted() {
    ///     let used = 340; // the work
    ///     answer.commit(used).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`inc`](Self::inc).
    ///
    /// # Cancellation
    ///
    /// If the call is dropped before the decision is known, its units may stay charged for a window. Afterwards they are
    /// freed in the background.
    pub async fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
        ttl: Duration,
    ) -> Result<Reservation, StoreError> {
        self.reserve_units(key.as_ref(), rate, n, ttl, false).await
    }

    /// Reserves as many of `n` units as fit; see [`reserve`](Self::reserve). If not all fit, it takes more round trips.
    pub async fn reserve_up_to(
        &self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
        ttl: Duration,
    ) -> Result<Reservation, StoreError> {
        self.reserve_units(key.as_ref(), rate, n, ttl, true).await
    }

    async fn reserve_units(
        &self,
        key: &[u8],
        rate: &RateLimit,
        n: u64,
        ttl: Duration,
        is_partial: bool,
    ) -> Result<Reservation, StoreError> {
        let shared = self.shared()?;
        let on_store_error = shared.client.on_store_error;
        let budget: Arc<dyn Budget> = Arc::new(RedisBudget {
            shared: Arc::clone(shared),
            account: shared.main.clone(),
            limits: Self::limits(shared, rate),
            opened: Arc::new(Policy::new("", [], Strategy::Absolute)),
        });
        Reservation::new(budget, key, n, ttl, is_partial, on_store_error).await
    }
}

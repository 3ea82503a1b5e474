//! Reservations of a hybrid store: the engine's calls for costs that are known only afterwards.

use std::sync::Arc;
use std::time::Duration;

use super::calls::HybridLimits;
use super::hybrid_budget::HybridBudget;
use crate::error::StoreError;
use crate::policy::Policy;
use crate::quota::RateLimit;
use crate::store::budget::Budget;
use crate::store::reservation::Reservation;
use crate::strategy::{Absolute, Strategy};

impl HybridLimits<'_, Absolute> {
    /// Reserves `n` units, all or none; see [`RedisLimits::reserve`](crate::store::RedisLimits::reserve).
    ///
    /// This instance first returns the units that it holds, and Redis decides.
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
        let on_store_error = shared.on_store_error;
        // If Redis is away, the decision applies the policy for that.
        let _ = shared.give_back_key(&shared.main, key).await;
        // The end of the reservation returns units, so no lease must contain them.
        let opened = Policy::new("", [], Strategy::Absolute).with_on_store_error(on_store_error).settled();
        let budget: Arc<dyn Budget> = Arc::new(HybridBudget {
            shared: Arc::clone(shared),
            table: Arc::clone(&shared.main),
            limits: Self::own(shared, &Self::limits(shared, rate)),
            opened: Arc::new(opened),
            glances: Arc::default(),
        });
        Reservation::new(budget, key, n, ttl, is_partial, on_store_error).await
    }
}

//! Calls that wait for units of a local store.

use std::time::Duration;

use super::calls::LocalLimits;
use crate::decision::{Decision, RateLimitDecision};
use crate::engine::Limit;
use crate::error::StoreError;
use crate::keyspace::fingerprint::Fingerprint;
use crate::keyspace::{Queues, Windows};
use crate::quota::RateLimit;
use crate::store::budget::BudgetResponse;
use crate::store::waiting::{self, Ask};
use crate::strategy::Absolute;

impl LocalLimits<'_, Absolute> {
    /// Asks for `n` units, and waits until they are admitted, for at most `max_wait`.
    ///
    /// It charges only when it returns an admission. If `n` units cannot be admitted in time, it returns the refusal as
    /// soon as this is known, which is usually at once. The refusal states the wait from then on.
    ///
    /// Waiting calls of one key are admitted first come, first served, whatever their costs. A refusal considers the
    /// calls ahead: its wait is exact if they all ask for one unit and stay. Calls of [`inc`](Self::inc) do not queue,
    /// and can take units before waiting calls.
    ///
    /// The call needs no runtime, and works on any. It measures time by the limiter's clock, so a
    /// [`ManualClock`](crate::ManualClock) wakes it. A correction, such as [`delete`](Self::delete), does not shorten a
    /// wait that has begun.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::{RateLimit, RateLimiter, WindowSizeSeconds};
    ///
    /// # futures_util::FutureExt::now_or_never(async {
    /// let rl = RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(1)?).build()?;
    /// let rate = RateLimit::try_from(50.0)?; // 50 in any second
    /// let mails = rl.local().absolute();
    /// if mails.until_allowed("example.org", &rate, 1, Duration::from_secs(2)).await?.is_allowed() {
    ///     println!("send it");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).expect("it need not wait")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Only an error of the kind [`QueueFull`](crate::StoreErrorKind::QueueFull): the call would have to wait, and
    /// [`max_waiting`](crate::RateLimiterBuilder::max_waiting) calls wait already, or
    /// [`max_waiting_per_key`](crate::RateLimiterBuilder::max_waiting_per_key) of this key.
    ///
    /// # Cancellation
    ///
    /// A call that is dropped charges nothing, and the next call has its turn.
    pub async fn until_allowed(
        self,
        key: impl AsRef<[u8]>,
        rate: &RateLimit,
        n: u64,
        max_wait: Duration,
    ) -> Result<RateLimitDecision, StoreError> {
        let limit = self.windows.geometry.limit(rate, false);
        let ask = LocalAsk { windows: self.windows, key: key.as_ref(), cost: n, limit };
        let decision = waiting::until_allowed(self.windows.queues.get(), &self.windows.time, &ask, max_wait).await?;
        Ok(decision.into())
    }
}

/// A request for units of a key of the engine's calls.
struct LocalAsk<'a> {
    windows: &'a Windows,
    key: &'a [u8],
    cost: u64,
    limit: Limit,
}

impl LocalAsk<'_> {
    fn decision(&self) -> Decision {
        self.windows.decide(&self.windows.main, self.key, self.cost, &[self.limit], false)
    }
}

impl Ask for LocalAsk<'_> {
    fn fingerprint(&self, queues: &Queues) -> Fingerprint {
        queues.fingerprint(self.key)
    }

    fn cost(&self) -> u64 {
        self.cost
    }

    fn capacity(&self) -> u64 {
        self.limit.capacity
    }

    fn hold_ms(&self) -> u64 {
        self.windows.geometry.hold_ms(&self.limit)
    }

    fn at_once(&self) -> Option<Decision> {
        Some(self.decision())
    }

    fn decide(&self) -> BudgetResponse {
        BudgetResponse::Ready(Ok(self.decision()))
    }

    fn foresee(&self, units: u64) -> Option<Decision> {
        Some(self.windows.look(&self.windows.main, self.key, units, &[self.limit], false))
    }
}

//! A limit that the user states, and its replay on the engine.

use std::sync::Arc;

use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store as _, Strategy};
use tower_weir::{
    ConfigError, Decision, HardLimitFactor, ManualClock, Quota, Quotas, RateGroupSizeMs, RateLimiter,
    RateLimiterOptions,
};

use crate::tally::{Answer, Buckets, Tally};
use crate::trace::{Column, Trace};

/// The options of the limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    pub(crate) max_keys: usize,
    pub(crate) rate_group_ms: RateGroupSizeMs,
}

impl Default for Engine {
    fn default() -> Self {
        let RateLimiterOptions { max_keys, rate_group_size_ms, .. } = RateLimiterOptions::default();
        Self { max_keys, rate_group_ms: rate_group_size_ms }
    }
}

/// One limit: quotas, a strategy, and whose requests it counts.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) quotas: Vec<Quota>,
    /// `None` for the absolute strategy.
    pub(crate) suppressed: Option<HardLimitFactor>,
    pub(crate) per: String,
}

impl Engine {
    /// A limiter on a clock of its own.
    pub(crate) fn limiter(self, clock: &ManualClock) -> Result<RateLimiter, ConfigError> {
        RateLimiter::new(RateLimiterOptions {
            max_keys: self.max_keys,
            rate_group_size_ms: self.rate_group_ms,
            clock: Some(Arc::new(clock.clone())),
            ..RateLimiterOptions::default()
        })
    }
}

/// The largest count of a quota.
pub(crate) const LARGEST: u64 = 1 << 39;

/// The seed for the decision on the request with this number, so that a replay can be repeated.
///
/// The odd factor is 2^64 divided by the golden ratio: it spreads consecutive numbers over all seeds.
pub(crate) fn seed(request: usize) -> u64 {
    (request as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Limit {
    /// The limit as a text, such as `10/s, 1000/h`.
    pub(crate) fn text(&self) -> String {
        Quotas::from(self.quotas.as_slice()).to_string()
    }

    pub(crate) fn strategy(&self) -> String {
        self.suppressed.map_or("absolute".into(), |factor| format!("suppressed {}", factor.get()))
    }

    /// The same limit with another count in the first quota. The other quotas change by the same factor, rounded up.
    pub(crate) fn scaled(&self, count: u64) -> Result<Self, ConfigError> {
        let first = u128::from(self.quotas[0].count());
        let scaled = |quota: &Quota| {
            let scaled = (u128::from(quota.count()) * u128::from(count)).div_ceil(first);
            Quota::new(u64::try_from(scaled).unwrap_or(u64::MAX).min(LARGEST), quota.window())
        };
        Ok(Self { quotas: self.quotas.iter().map(scaled).collect::<Result<_, _>>()?, ..self.clone() })
    }

    /// The budget of the limit.
    pub(crate) fn open(&self, engine: Engine, clock: &ManualClock) -> Result<Arc<dyn Budget>, ConfigError> {
        let strategy = self.suppressed.map_or(Strategy::Absolute, Strategy::Suppressed);
        engine.limiter(clock)?.local().open(&Policy::new("replay", self.quotas.clone(), strategy))
    }

    /// Decides on each request.
    pub(crate) fn replay(&self, trace: &Trace, column: &Column, engine: Engine) -> Result<Tally, ConfigError> {
        let Some(span) = trace.span() else { return Ok(Tally::new(Buckets::of((0, 0)), column)) };
        let mut tally = Tally::new(Buckets::of(span), column);
        self.each(
            trace,
            column,
            engine,
            |_| true,
            |request, decision| {
                let answer = if decision.is_allowed() { Answer::Admitted } else { Answer::Refused };
                tally.overflow += u64::from(decision.is_overflow());
                tally.count(trace, column, request, answer);
            },
        )?;
        Ok(tally)
    }

    /// Counts the refusals and nothing else.
    ///
    /// A key with no more requests in the whole log than each quota admits in one window is never refused, by either
    /// strategy. The engine need not decide on its requests, unless the store may be full.
    pub(crate) fn refusals(
        &self,
        trace: &Trace,
        column: &Column,
        engine: Engine,
        offered_by: &[u32],
    ) -> Result<u64, ConfigError> {
        let least = self.quotas.iter().map(Quota::count).min().unwrap_or(0);
        let may_be_full = column.keys.len() > engine.max_keys;
        let mut refused = 0;
        let may_be_refused = |key: u32| may_be_full || u64::from(offered_by[key as usize]) > least;
        self.each(trace, column, engine, may_be_refused, |_, decision| refused += u64::from(!decision.is_allowed()))?;
        Ok(refused)
    }

    fn each(
        &self,
        trace: &Trace,
        column: &Column,
        engine: Engine,
        is_asked: impl Fn(u32) -> bool,
        mut see: impl FnMut(usize, &Decision),
    ) -> Result<(), ConfigError> {
        let clock = ManualClock::new();
        let budget = self.open(engine, &clock)?;
        let (start, mut now) = (trace.span().map_or(0, |(first, _)| first), 0);
        for (request, (time, key)) in trace.times.iter().zip(&column.ids).enumerate() {
            if !is_asked(*key) {
                continue;
            }
            if *time - start != now {
                now = *time - start;
                clock.set_ms(now);
            }
            if self.suppressed.is_some() {
                // What a request draws does not depend on which other requests are left out.
                fastrand::seed(seed(request));
            }
            // Each key has a number, which is shorter than its bytes.
            match budget.decide(BudgetRequest::new(&key.to_le_bytes(), 1)) {
                BudgetResponse::Ready(Ok(decision)) => see(request, &decision),
                BudgetResponse::Ready(Err(_)) | BudgetResponse::Pending(_) => {
                    unreachable!("a local store decides at once")
                }
            }
        }
        Ok(())
    }
}

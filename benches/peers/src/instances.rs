//! Instances of the remote stores, which ask for one key.

use std::sync::Arc;

use tower_weir::{RateLimit, RateLimiter};
use trypema::hybrid::HybridRateLimiterProvider;
use trypema::redis::{RedisKey, RedisRateLimiterProvider};

use crate::offer::{Answer, Instance};

const KEY: &str = "key";

pub fn hybrid(limiter: RateLimiter, rate: RateLimit) -> Instance {
    Arc::new(move || {
        let limiter = limiter.clone();
        Box::pin(async move {
            let decision = limiter.hybrid().absolute().inc(KEY, &rate, 1).await;
            Answer::of(decision.map(|decision| decision.is_allowed()))
        })
    })
}

pub fn redis(limiter: RateLimiter, rate: RateLimit) -> Instance {
    Arc::new(move || {
        let limiter = limiter.clone();
        Box::pin(async move {
            let decision = limiter.redis().absolute().inc(KEY, &rate, 1).await;
            Answer::of(decision.map(|decision| decision.is_allowed()))
        })
    })
}

pub fn trypema_hybrid(provider: Arc<HybridRateLimiterProvider>, per_second: f64) -> Instance {
    let (key, rate) = (RedisKey::new_or_panic(KEY.into()), trypema::RateLimit::per_second_or_panic(per_second));
    Arc::new(move || {
        let (provider, key) = (Arc::clone(&provider), key.clone());
        Box::pin(async move { trypema_answer(provider.absolute().inc(&key, &rate, 1).await) })
    })
}

pub fn trypema_redis(provider: Arc<RedisRateLimiterProvider>, per_second: f64) -> Instance {
    let (key, rate) = (RedisKey::new_or_panic(KEY.into()), trypema::RateLimit::per_second_or_panic(per_second));
    Arc::new(move || {
        let (provider, key) = (Arc::clone(&provider), key.clone());
        Box::pin(async move { trypema_answer(provider.absolute().inc(&key, &rate, 1).await) })
    })
}

fn trypema_answer<E>(decision: Result<trypema::RateLimitDecision, E>) -> Answer {
    Answer::of(decision.map(|decision| matches!(decision, trypema::RateLimitDecision::Allowed)))
}

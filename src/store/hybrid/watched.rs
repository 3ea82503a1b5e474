//! A budget that admits nothing while a unit of the key is in use, such as a ban.
//!
//! Nothing can be leased of it, so every question would be a call. But most keys have no unit, so this instance answers
//! with what Redis replied at most a second ago.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::{Answer, Answers};
use super::hybrid_budget::HybridBudget;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::keyspace::fingerprint::Fingerprint;
use crate::policy::OnStoreError;
use crate::runtime;
use crate::store::budget::{Budget, BudgetChange, BudgetRequest, BudgetResponse};

/// The age at which an answer is asked for again in the background.
const FRESH: Duration = Duration::from_millis(500);
/// The age up to which an answer is used.
const STALE: Duration = Duration::from_secs(1);

/// See the module documentation.
#[derive(Clone)]
pub(super) struct WatchedBudget(Arc<Watched>);

struct Watched {
    redis: HybridBudget,
    answers: Answers,
}

impl WatchedBudget {
    pub(super) fn new(redis: HybridBudget) -> Self {
        Self(Arc::new(Watched { redis, answers: Answers::default() }))
    }
}

impl Watched {
    /// Asks Redis, and remembers the reply.
    async fn ask(&self, key: &[u8], print: Fingerprint) -> Result<Decision, StoreError> {
        let asked = Instant::now();
        match (self.redis.look(key, 0).await, self.answers.get(print, 0, Duration::MAX)) {
            (Ok(decision), _) => {
                self.answers.insert(print, Answer::new(asked, 0, decision));
                Ok(decision)
            }
            // Without Redis, a unit that is known is in use.
            (Err(_), Some((known, now))) if !known.at(now).is_allowed() => Ok(known.at(now)),
            // The share of nothing has room for nothing.
            (Err(_), _) if self.redis.on_store_error() == OnStoreError::LocalShare => Ok(Decision::allowed(0, 0)),
            (Err(error), _) => Err(error),
        }
    }
}

impl Budget for WatchedBudget {
    fn decide(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        if ask.cost > 0 {
            return self.0.redis.decide(ask);
        }
        let print = self.0.redis.table.fingerprint(ask.key);
        let ask = || {
            let (watched, key) = (Arc::clone(&self.0), Box::<[u8]>::from(ask.key));
            async move { watched.ask(&key, print).await }
        };
        let Some((answer, now)) = self.0.answers.get(print, 0, STALE) else {
            return BudgetResponse::Pending(Box::pin(ask()));
        };
        if answer.age(now) >= FRESH && !answer.is_renewed() {
            self.0.answers.insert(print, answer.renewed());
            let ask = ask();
            let _ = runtime::spawn(async { drop(ask.await) });
        }
        BudgetResponse::Ready(Ok(answer.at(now)))
    }

    fn refund(&self, key: &[u8], cost: u64, decision: &Decision) {
        self.0.redis.refund(key, cost, decision);
    }

    fn peek(&self, ask: BudgetRequest<'_>) -> BudgetResponse {
        self.0.redis.peek(ask)
    }

    fn set(&self, key: &[u8], count: u64, age: Duration) -> BudgetChange {
        let (watched, print) = (Arc::clone(&self.0), self.0.redis.table.fingerprint(key));
        let (set, key) = (self.0.redis.set(key, count, age), Box::<[u8]>::from(key));
        Box::pin(async move {
            let result = set.await;
            watched.answers.forget(print);
            // The next request here sees the change, even if Redis fails meanwhile.
            result.and(watched.ask(&key, print).await.map(drop))
        })
    }
}

impl fmt::Debug for WatchedBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedBudget").field(&self.0.redis).finish()
    }
}

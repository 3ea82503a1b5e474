//! What becomes of a request: decided here, or with its key's settling, or alone, or without Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::purse::{Purse, Step, Trip};
use super::settling::{OwnRules, Settling};
use super::syncer;
use super::table::Purses;
use super::{Shared, Wanted};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::redis::script::Ask;
use crate::redis::{Failure, runtime};
use crate::store::{Answer, OnStoreError};

/// What comes of a request that its purse cannot decide at once.
enum Next {
    Decided(Decision),
    Settle(Settling),
    /// To be asked alone, after what is under way.
    Ask(Option<Arc<Semaphore>>),
}

impl Shared {
    /// Decides: at once from a lease or by a refusal that holds, else after a round trip.
    #[inline]
    pub(super) fn decide(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        wanted: &Wanted<'_>,
        own_rules: impl FnOnce() -> OwnRules,
    ) -> Answer {
        let (now, print) = (self.time.now_ms(), purses.print(wanted.key));
        let step = purses.with(print, |purse| purse.spend(now, wanted.cost, &wanted.rules, &self.terms));
        match step {
            Some(Step::Decided(decision)) => Answer::Ready(Ok(decision)),
            Some(Step::Low(decision, counter)) => {
                self.syncer.expect(now, counter, purses, print, &own_rules());
                Answer::Ready(Ok(decision))
            }
            _ if !self.redis.lanes.allows(|| purses.keys.names.name(wanted.key)) => {
                Answer::Ready(self.without_redis(purses, print, wanted, Failure::unavailable()))
            }
            step => self.ask(purses, print, wanted, step, now, own_rules()),
        }
    }

    #[cold]
    fn ask(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        wanted: &Wanted<'_>,
        step: Option<Step>,
        now: u64,
        rules: OwnRules,
    ) -> Answer {
        let visit = |purse: &mut Purse| {
            let step = step.unwrap_or_else(|| purse.spend(now, wanted.cost, &wanted.rules, &self.terms));
            self.next(purses, print, purse, step, wanted.cost, &rules)
        };
        let next = purses.with_new(print, wanted.key, now, &self.terms, visit).unwrap_or(Next::Ask(None));
        if let Next::Decided(decision) = next {
            return Answer::Ready(Ok(decision));
        }
        let (shared, purses) = (Arc::clone(self), Arc::clone(purses));
        let (key, cost, on_store_error) = (Box::<[u8]>::from(wanted.key), wanted.cost, wanted.on_store_error);
        Answer::Pending(Box::pin(async move {
            syncer::start(&shared);
            let result = match next {
                Next::Ask(Some(gate)) => shared.wait(&purses, print, &gate, &key, cost, &rules).await,
                next => shared.follow(&purses, print, next, &key, cost, &rules).await,
            };
            result.or_else(|failure| {
                let wanted = Wanted { key: &key, cost, rules: rules.borrow(), on_store_error };
                shared.without_redis(&purses, print, &wanted, failure)
            })
        }))
    }

    /// What follows from a step, under the key's lock.
    fn next(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        purse: &mut Purse,
        step: Step,
        cost: u64,
        rules: &OwnRules,
    ) -> Next {
        match step {
            Step::Decided(decision) | Step::Low(decision, _) => Next::Decided(decision),
            Step::Settle if !purse.is_settling() => {
                Next::Settle(self.begin(purses, print, purse, rules, true).with_ask(cost))
            }
            // A look changes nothing, and waits for nothing.
            _ => Next::Ask(if cost > 0 { purse.gate() } else { None }),
        }
    }

    /// Waits until the key is settled, and has Redis decide only if that did not bring enough: so many who come at
    /// once are not as many questions.
    async fn wait(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        gate: &Semaphore,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        let (began, deadline) = (Instant::now(), self.redis.lanes.deadline());
        let _closed = runtime::timeout(deadline, gate.acquire())?.await.map_err(|_| Failure::timeout())?;
        let now = self.time.now_ms();
        let again = |purse: &mut Purse| {
            let step = purse.spend_again(now, cost, &rules.borrow(), &self.terms);
            self.next(purses, print, purse, step, cost, rules)
        };
        let next = purses.with(print, again).unwrap_or(Next::Ask(None));
        let rest = deadline.saturating_sub(began.elapsed());
        let follow = self.follow(purses, print, next, key, cost, rules);
        runtime::timeout(rest, follow)?.await.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    async fn follow(
        &self,
        purses: &Purses,
        print: Fingerprint,
        next: Next,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        match next {
            Next::Decided(decision) => Ok(decision),
            Next::Settle(settling) => settling.fly().await?.ok_or_else(Failure::unreadable),
            Next::Ask(_) => self.ask_alone(purses, print, key, cost, rules).await,
        }
    }

    /// Begins to settle a key.
    pub(super) fn begin(
        self: &Arc<Self>,
        purses: &Arc<Purses>,
        print: Fingerprint,
        purse: &mut Purse,
        rules: &OwnRules,
        wants: bool,
    ) -> Settling {
        let now = self.time.now_ms();
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let wants = wants && !self.is_closed.load(Ordering::Relaxed);
        let mut part = purse.begin(now, counter, wants, &purses.here, &self.terms);
        if !rules.is_suppressed {
            purse.decline(std::mem::take(&mut part.declined));
        }
        let trip = Trip { sent: now, now, changes: purse.changes() };
        Settling::new(Arc::clone(self), Arc::clone(purses), print, purse.name.clone(), part, rules.clone(), trip)
    }

    /// Asks Redis for one request alone, while its key is being settled or has no purse.
    async fn ask_alone(
        &self,
        purses: &Purses,
        print: Fingerprint,
        key: &[u8],
        cost: u64,
        rules: &OwnRules,
    ) -> Result<Decision, Failure> {
        let (sent, ask) = (self.time.now_ms(), Ask { cost, random: fastrand::u32(..) });
        let changes = purses.with(print, |purse| purse.changes()).unwrap_or(0);
        let reply = self.redis.question(&purses.keys, key, rules.mode(), &rules.scaled, ask).await?;
        let decision = self.redis.read(&reply, ask, cost, &rules.scaled)?;
        let decision = rules.told(decision);
        let (trip, rules) = (Trip { sent, now: self.time.now_ms(), changes }, rules.borrow());
        let keep = |purse: &mut Purse| purse.remember(trip, cost, decision, &rules, &purses.here, &self.terms);
        purses.with(print, keep);
        Ok(decision)
    }

    /// What the policy says while Redis cannot be asked.
    fn without_redis(
        &self,
        purses: &Purses,
        print: Fingerprint,
        wanted: &Wanted<'_>,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        if wanted.on_store_error != OnStoreError::LocalShare {
            return Err(failure.into());
        }
        let (now, instances) = (self.time.now_ms(), self.redis.instances());
        let share =
            |purse: &mut Purse| purse.share(now, wanted.cost, &wanted.rules, instances, &purses.here, &self.terms);
        purses.with_new(print, wanted.key, now, &self.terms, share).ok_or_else(|| failure.into())
    }
}

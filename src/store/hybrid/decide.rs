//! The driver of a request: it locks, sends, waits and wakes. The key state decides which of these happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::state::{Shared, Wanted};
use super::sync::SyncOp;
use super::table::{KeyRef, KeyTable};
use super::task;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::lease::{Action, Asked, KeyState, OwnedLimitSet, Request};
use crate::policy::OnStoreError;
use crate::redis::Failure;
use crate::runtime;
use crate::script::{Ask, LeaseId};
use crate::store::budget::BudgetResponse;

/// The next step of a request that is not decided at once.
enum Next {
    Decided(Decision),
    Sync(SyncOp),
    /// Wait for a sync, for at most this number of milliseconds.
    Wait(Arc<Semaphore>, u64),
    AskAlone,
}

impl Shared {
    /// Decides at once from a lease or a valid refusal, otherwise after a round trip.
    #[inline]
    pub(super) fn decide(
        self: &Arc<Self>,
        table: &Arc<KeyTable>,
        wanted: &Wanted<'_>,
        owned_limits: impl FnOnce() -> OwnedLimitSet,
    ) -> BudgetResponse {
        match self.decide_at_once(table, wanted) {
            (_, Some((decision, None))) => BudgetResponse::Ready(Ok(decision)),
            (_, Some((decision, Some(low)))) => {
                self.renew_early(&table.key_ref(wanted.key), low);
                BudgetResponse::Ready(Ok(decision))
            }
            _ if !self.may_ask(table, wanted.key) => {
                let key = table.key_ref(wanted.key);
                BudgetResponse::Ready(self.without_redis(&key, wanted, owned_limits, Failure::unavailable()))
            }
            (is_known, None) => self.ask(table, wanted, is_known, owned_limits()),
        }
    }

    fn may_ask(&self, table: &KeyTable, key: &[u8]) -> bool {
        let dispatcher = &self.redis.dispatcher;
        dispatcher.allows(dispatcher.name_to_route(|| table.keys.names.name(key)).as_deref())
    }

    /// Schedules the renewal of a lease that runs low, without an allocation.
    #[cold]
    pub(super) fn renew_early(&self, key: &KeyRef, low: LeaseId) {
        if let Some(limits) = key.with(|state| state.lent_limits()).flatten() {
            self.schedule.add(self.time.now_ms(), Some(low), key, &limits);
        }
    }

    /// Returns the decision that needs no call, the lease that runs low because of it, and whether the key is known.
    #[inline]
    pub(super) fn decide_at_once(
        &self,
        table: &KeyTable,
        wanted: &Wanted<'_>,
    ) -> (bool, Option<(Decision, Option<LeaseId>)>) {
        let (now, print) = (self.time.now_ms(), table.fingerprint(wanted.key));
        let request = Request { cost: wanted.cost, limits: wanted.limits, is_retry: false };
        let visit = |state: &mut KeyState| match wanted.is_leased {
            true => state.handle_request(now, &request, &self.params),
            // Another policy may lease units of the same key.
            false => state.known_refusal(now, &request, &self.params).map_or(Action::AskAlone, Action::Decided),
        };
        match table.with(print, visit) {
            Some(Action::Decided(decision)) => (true, Some((decision, None))),
            Some(Action::DecidedLow(decision, low)) => (true, Some((decision, Some(low)))),
            action => (action.is_some(), None),
        }
    }

    #[cold]
    fn ask(
        self: &Arc<Self>,
        table: &Arc<KeyTable>,
        wanted: &Wanted<'_>,
        is_known: bool,
        limits: OwnedLimitSet,
    ) -> BudgetResponse {
        let (shared, key_ref) = (Arc::clone(self), table.key_ref(wanted.key));
        let Wanted { cost, on_store_error, is_leased, .. } = *wanted;
        let key = Box::<[u8]>::from(wanted.key);
        // No work starts before the first poll, so a future that is never polled leaves no state behind.
        BudgetResponse::Pending(Box::pin(async move {
            let wanted = Wanted { key: &key, cost, limits: limits.borrow(), on_store_error, is_leased };
            let result = match is_leased {
                true => shared.decide_with_redis(&key_ref, &wanted, is_known, &limits).await,
                false => shared.decide_unleased(&key_ref, &wanted, &limits).await,
            };
            result.or_else(|failure| shared.without_redis(&key_ref, &wanted, || limits.clone(), failure))
        }))
    }

    async fn decide_with_redis(
        self: &Arc<Self>,
        key: &KeyRef,
        wanted: &Wanted<'_>,
        is_known: bool,
        limits: &OwnedLimitSet,
    ) -> Result<Decision, Failure> {
        task::start(self);
        let (began, deadline) = (Instant::now(), self.redis.dispatcher.deadline());
        let (mut is_retry, mut has_waited) = (is_known, false);
        loop {
            let rest = deadline.saturating_sub(began.elapsed());
            match self.next(key, wanted, is_retry, has_waited, limits) {
                Next::Decided(decision) => return Ok(decision),
                Next::Sync(sync) => {
                    return sync.wait(rest).await?.ok_or_else(Failure::unreadable);
                }
                Next::AskAlone => {
                    let asked = runtime::timeout(rest, self.ask_alone(key, wanted, limits))?.await;
                    return asked.unwrap_or(Err(Failure::timeout()));
                }
                Next::Wait(done, most_ms) => {
                    let most = rest.min(Duration::from_millis(most_ms));
                    // The semaphore only ever closes; no waiter gets a permit.
                    has_waited |= runtime::timeout(most, done.acquire())?.await.is_ok();
                    if began.elapsed() >= deadline {
                        return Err(Failure::timeout());
                    }
                }
            }
            is_retry = true;
        }
    }

    /// Decides in Redis, without a lease. A charge can then be refunded for as long as it counts.
    async fn decide_unleased(
        &self,
        key: &KeyRef,
        wanted: &Wanted<'_>,
        limits: &OwnedLimitSet,
    ) -> Result<Decision, Failure> {
        // Its state keeps refusals, and the admissions of this instance's share.
        key.table.with_new(key.print, wanted.key, self.time.now_ms(), &self.params, |_| ());
        let asked = runtime::timeout(self.redis.dispatcher.deadline(), self.ask_alone(key, wanted, limits))?.await;
        asked.unwrap_or(Err(Failure::timeout()))
    }

    fn next(
        self: &Arc<Self>,
        key: &KeyRef,
        wanted: &Wanted<'_>,
        is_retry: bool,
        has_waited: bool,
        limits: &OwnedLimitSet,
    ) -> Next {
        let (now, cost) = (self.time.now_ms(), wanted.cost);
        let request = Request { cost, limits: wanted.limits, is_retry };
        let visit = |state: &mut KeyState| match state.handle_request(now, &request, &self.params) {
            Action::Decided(decision) => Next::Decided(decision),
            Action::DecidedLow(decision, low) => {
                self.schedule.add(now, Some(low), key, limits);
                Next::Decided(decision)
            }
            Action::Sync => Next::Sync(SyncOp::start(self, key, state, limits, true).with_ask(cost)),
            // Many simultaneous requests must not cause as many syncs in sequence.
            Action::Wait(_) if has_waited => Next::AskAlone,
            Action::Wait(most_ms) => state.sync_done().map_or(Next::AskAlone, |done| Next::Wait(done, most_ms)),
            Action::AskAlone => Next::AskAlone,
        };
        let is_peek = cost == 0;
        let next = match is_peek {
            true => key.with(visit),
            false => key.table.with_new(key.print, wanted.key, now, &self.params, visit),
        };
        next.unwrap_or(Next::AskAlone)
    }

    /// Decides one request in Redis alone, while its key is being synced or has no state here.
    async fn ask_alone(&self, key: &KeyRef, wanted: &Wanted<'_>, limits: &OwnedLimitSet) -> Result<Decision, Failure> {
        let (sent, ask) = (self.time.now_ms(), Ask { cost: wanted.cost, random: fastrand::u32(..) });
        let changes = key.with(|state| state.changes()).unwrap_or(0);
        let keys = &key.table.keys;
        let policy = self.redis.policy(keys, limits.mode(), &limits.scaled);
        let reply = self.redis.question(policy, keys.names.name(wanted.key), ask).await?;
        let decision = limits.unscale(self.redis.read(&reply, ask, wanted.cost, &limits.scaled)?);
        let (now, asked) = (self.time.now_ms(), Asked { sent, changes, is_alone: true });
        key.with(|state| {
            state.record_outcome(now, &asked, wanted.cost, decision, &wanted.limits, self.context(&key.table));
        });
        Ok(decision)
    }

    /// Applies the policy for a request that Redis cannot decide.
    fn without_redis(
        self: &Arc<Self>,
        key: &KeyRef,
        wanted: &Wanted<'_>,
        limits: impl FnOnce() -> OwnedLimitSet,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        if wanted.on_store_error != OnStoreError::LocalShare {
            return Err(failure.into());
        }
        let (now, instances) = (self.time.now_ms(), self.redis.instances());
        let request = Request { cost: wanted.cost, limits: wanted.limits, is_retry: true };
        let share = |state: &mut KeyState| {
            let decision = state.decide_by_share(now, &request, instances, self.context(&key.table));
            (decision, state.needs_retry())
        };
        let shared = key.table.with_new(key.print, wanted.key, now, &self.params, share);
        let (decision, needs_retry) = shared.ok_or(failure)?;
        key.table.watch.degraded();
        if needs_retry {
            task::start(self);
            self.schedule.retry(now, key, &limits());
        }
        Ok(decision)
    }
}

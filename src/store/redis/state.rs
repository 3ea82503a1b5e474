//! The state that the handles of one Redis store share, and its decisions.

use std::sync::Arc;
use std::time::Duration;

use super::deny_cache::{DenyCache, RoundTrip};
use super::joint_refusals::JointRefusals;
use super::permits::HeldPermits;
use super::policy_cache::PolicyCache;
use super::renewals::Renewals;
use crate::correction::{RateLimitComparator, SetOutcome};
use crate::decision::{Charge, Decision};
use crate::engine::{Limit, SetMode};
use crate::error::{ConfigError, StoreError};
use crate::keyspace::registry::{Kept, PolicyRegistry};
use crate::keyspace::{Settings, Windows};
use crate::lease::NameSource;
use crate::policy::{OnStoreError, Policy};
use crate::redis::{Client, Failure, Keyspace, OnDrop};
use crate::runtime::{self, Carrier};
use crate::script::{self, Correction, CorrectionReply, EncodedPolicy, Mode};
use crate::store::budget::BudgetResponse;
use crate::store::local_share::LocalShare;
use crate::telemetry::{self, Notice};
use crate::time::TimeSource;

/// The state that the handles of one store share.
pub(super) struct Shared {
    pub(super) client: Arc<Client>,
    /// The units that this instance has admitted, for its shares.
    pub(super) windows: Arc<Windows>,
    has_deny_cache: bool,
    /// The refusals of requests with several limits.
    pub(super) refused: JointRefusals,
    /// The names of holds.
    pub(super) names: NameSource,
    /// The clock of calls that wait.
    pub(super) time: TimeSource,
    /// The keys of the engine's own calls.
    pub(super) main: LimitHandle,
    /// The keys of the limits that layers opened.
    pub(super) named: PolicyRegistry<LimitKeys>,
    /// The task that renews permits.
    pub(super) renewals: Renewals,
}

/// The keys of one limit's name, and their deny cache.
pub(super) struct LimitKeys {
    pub(super) space: Arc<Keyspace>,
    denied: Option<DenyCache>,
    /// What this instance holds, if units are permits.
    pub(super) permits: Option<Arc<HeldPermits>>,
}

/// The keys of a name, and the local share that decides during an outage.
#[derive(Clone)]
pub(super) struct LimitHandle {
    pub(super) keys: Arc<LimitKeys>,
    pub(super) share: Option<LocalShare>,
    /// The last policy; the limits of a layer are always the same.
    pub(super) policy: Arc<PolicyCache>,
}

/// One requested decision.
pub(super) struct Wanted<'a> {
    pub(super) key: &'a [u8],
    pub(super) cost: u64,
    pub(super) limits: &'a Arc<[Limit]>,
    pub(super) mode: Mode,
}

impl Kept for LimitKeys {
    fn keep_history(&self, spans: &[u32]) {
        self.space.horizon.assign(spans);
    }

    /// The history is in Redis, and the spans say how much of it stays there.
    fn may_go(&self, is_past: bool) -> bool {
        is_past
    }
}

impl LimitKeys {
    fn new(client: &Client, name: Option<&str>, has_deny_cache: bool) -> Self {
        let denied = has_deny_cache.then(|| DenyCache::new(DenyCache::MOST));
        Self { space: Arc::new(client.keyspace(name)), denied, permits: None }
    }

    /// Keys whose units are permits. No refusal is remembered, because any instance may end it.
    fn of_permits(client: &Client, name: &str) -> Self {
        Self { permits: Some(Arc::default()), ..Self::new(client, Some(name), false) }
    }

    /// The count of this instance's corrections of a key, or of others, which a remembered refusal must match. Returns
    /// `None` if no refusal is remembered.
    pub(super) fn changes(&self, key: &[u8]) -> Option<u64> {
        self.denied.as_ref().map(|denied| denied.changes(key))
    }

    pub(super) fn forget(&self, key: &[u8]) {
        if let Some(denied) = &self.denied {
            denied.forget(key);
        }
    }
}

impl Shared {
    pub(super) fn new(client: &Arc<Client>, has_deny_cache: bool, settings: &Settings) -> Result<Self, ConfigError> {
        let windows = Windows::new(settings.clone(), "redis")?;
        let keys = LimitKeys::new(client, None, has_deny_cache);
        keys.space.horizon.widen(&[client.geometry.span()]);
        let share = match client.on_store_error {
            OnStoreError::LocalShare => Some(LocalShare::new(&windows, None, &[])?),
            _ => None,
        };
        Ok(Self {
            client: Arc::clone(client),
            windows,
            has_deny_cache,
            refused: JointRefusals::default(),
            names: NameSource::default(),
            time: TimeSource::system(),
            main: LimitHandle { keys: Arc::new(keys), share, policy: Arc::default() },
            named: PolicyRegistry::new(TimeSource::system()),
            renewals: Renewals::default(),
        })
    }

    /// Returns the keys of a limit that a layer opens.
    pub(super) fn keys_of(&self, policy: &Policy) -> LimitKeys {
        if policy.is_in_flight() {
            return LimitKeys::of_permits(&self.client, policy.name());
        }
        LimitKeys::new(&self.client, Some(policy.name()), self.has_deny_cache)
    }

    /// Decides at once if no call is necessary, otherwise after a round trip.
    pub(super) fn decide(self: &Arc<Self>, account: &LimitHandle, wanted: &Wanted<'_>) -> BudgetResponse {
        self.respond(account, wanted, true)
    }

    /// Looks at a key without a charge. Of the suppressed strategy, only the hard cap counts.
    pub(super) fn peek(self: &Arc<Self>, account: &LimitHandle, wanted: &Wanted<'_>) -> BudgetResponse {
        self.respond(account, wanted, false)
    }

    fn respond(self: &Arc<Self>, account: &LimitHandle, wanted: &Wanted<'_>, charges: bool) -> BudgetResponse {
        let keys = &account.keys;
        let name = self.client.dispatcher.name_to_route(|| keys.space.names.name(wanted.key));
        if !self.client.dispatcher.allows(name.as_deref()) {
            return BudgetResponse::Ready(self.instead(account, wanted, charges, Failure::unavailable()));
        }
        if wanted.mode == Mode::Absolute
            && let Some(denied) = &keys.denied
            && let Some(refusal) = denied.get(wanted.key, wanted.cost, wanted.limits)
        {
            return BudgetResponse::Ready(Ok(refusal));
        }
        let (shared, account) = (Arc::clone(self), account.clone());
        let (key, limits, cost, mode) = (Box::from(wanted.key), Arc::clone(wanted.limits), wanted.cost, wanted.mode);
        BudgetResponse::Pending(Box::pin(async move {
            let wanted = Wanted { key: &key, cost, limits: &limits, mode };
            let decided = match charges {
                true => shared.ask(&account, &wanted, name).await.map(|(decision, asked)| {
                    shared.remember(&account, &wanted, &decision, asked);
                    decision
                }),
                false => shared.client.look_at_cap(&account.keys.space, &key, cost, &limits).await,
            };
            decided.or_else(|failure| shared.instead(&account, &wanted, charges, failure))
        }))
    }

    fn instead(
        self: &Arc<Self>,
        account: &LimitHandle,
        wanted: &Wanted<'_>,
        charges: bool,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        match charges {
            true => self.without_redis(account, wanted, failure),
            false => self.peek_without_redis(account, wanted, failure),
        }
    }

    /// Looks at this instance's share of a request that Redis cannot decide.
    pub(super) fn peek_without_redis(
        &self,
        account: &LimitHandle,
        wanted: &Wanted<'_>,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        let Some(share) = &account.share else { return Err(failure.into()) };
        let is_suppressed = wanted.mode == Mode::Suppressed;
        Ok(share.look(wanted.key, wanted.cost, wanted.limits, self.client.instances(), is_suppressed))
    }

    /// Asks Redis; returns the decision, and when it was asked and answered.
    async fn ask(
        &self,
        account: &LimitHandle,
        wanted: &Wanted<'_>,
        name: Option<Box<[u8]>>,
    ) -> Result<(Decision, RoundTrip), Failure> {
        let changes = account.keys.changes(wanted.key).unwrap_or(0);
        let ask = script::Ask { cost: wanted.cost, random: fastrand::u32(..) };
        let name = name.unwrap_or_else(|| account.keys.space.names.name(wanted.key));
        let reply = self.client.question(self.policy(account, wanted), name, ask).await?;
        let charged = if wanted.mode == Mode::Peek { 0 } else { wanted.cost };
        let decision = self.client.read(&reply, ask, charged, wanted.limits)?;
        Ok((decision, RoundTrip { sent: reply.sent, received: reply.received, changes }))
    }

    /// The limits of a request, as the script reads them.
    pub(super) fn policy(&self, account: &LimitHandle, wanted: &Wanted<'_>) -> EncodedPolicy {
        let space = &account.keys.space;
        let encode = || self.client.policy(space, wanted.mode, wanted.limits);
        account.policy.get(space, wanted.mode, wanted.limits, encode)
    }

    /// Updates the deny cache and the local share from a decision.
    pub(super) fn remember(
        self: &Arc<Self>,
        account: &LimitHandle,
        wanted: &Wanted<'_>,
        decision: &Decision,
        asked: RoundTrip,
    ) {
        if let (Some(permits), Charge::Window { tick, units: units @ 1.. }) = (&account.keys.permits, decision.charge) {
            permits.hold(account.keys.space.names.name(wanted.key), Some(tick), units);
            self.start_renewals(&Carrier::here());
        } else if decision.used() > decision.limit() {
            self.check_use(&account.keys, wanted, decision);
        }
        if decision.charge.units() > 0 {
            if let Some(denied) = &account.keys.denied {
                denied.outdate(wanted.key);
            }
            if let Some(share) = &account.share {
                share.record(wanted.key, decision.charge.units());
                self.client.beat();
            }
        } else if wanted.mode == Mode::Absolute
            && !decision.is_allowed()
            && let Some(denied) = &account.keys.denied
        {
            denied.insert(wanted.key, wanted.cost, wanted.limits, decision, asked);
        }
    }

    /// Reports that a key holds more than its limits admit, because another process charges it by other limits.
    #[cold]
    fn check_use(&self, keys: &LimitKeys, wanted: &Wanted<'_>, decision: &Decision) {
        // The suppressed strategy admits some units above the capacity. Near an outage, the shares do too.
        let is_ours = wanted.limits.iter().any(|limit| decision.used() <= limit.hard.max(limit.capacity))
            && wanted.mode == Mode::Suppressed;
        if !is_ours
            && !self
                .client
                .dispatcher
                .had_outage_within(self.client.longest(&keys.space.horizon) + Duration::from_secs(10))
        {
            telemetry::notify(Notice::RedisNameShared, None);
        }
    }

    /// Applies the policy for a request that Redis cannot decide.
    pub(super) fn without_redis(
        self: &Arc<Self>,
        account: &LimitHandle,
        wanted: &Wanted<'_>,
        failure: Failure,
    ) -> Result<Decision, StoreError> {
        let Some(share) = &account.share else { return Err(failure.into()) };
        let (instances, is_suppressed) = (self.client.instances(), wanted.mode == Mode::Suppressed);
        let decision = share.decide(wanted.key, wanted.cost, wanted.limits, instances, is_suppressed);
        self.owe(account, wanted.key, &decision, &failure);
        Ok(decision)
    }

    /// Records what a share charged, to report it to Redis later.
    pub(super) fn owe(self: &Arc<Self>, account: &LimitHandle, key: &[u8], decision: &Decision, failure: &Failure) {
        if let Some(permits) = &account.keys.permits {
            return self.owe_permits(account, permits, key, decision.charge.units());
        }
        // What may have run may have been charged: reported again, it would count twice.
        if decision.charge.units() > 0 && !failure.may_have_run() {
            self.client.owe(&account.keys.space, key, decision.charge.units());
        }
    }

    /// Forgets all keys of a name.
    pub(super) async fn clear(&self, keys: &LimitKeys) -> Result<(), Failure> {
        // If the call ends early, some keys are gone.
        let _changed = OnDrop(|| keys.denied.iter().for_each(DenyCache::clear));
        self.client.clear(&keys.space).await
    }

    /// Sets the total of a key, if the comparator holds for its current total.
    pub(super) async fn set(
        &self,
        keys: &LimitKeys,
        key: &[u8],
        comparator: RateLimitComparator,
        (count, mode): (u64, SetMode),
    ) -> Result<SetOutcome, Failure> {
        let corrected = self.correct(keys, key, Correction::Set { comparator, count, mode }).await?;
        let (previous_total, current_total) = (corrected.before, corrected.after);
        Ok(SetOutcome { matched: corrected.done, previous_total, current_total })
    }

    /// Forgets a key, in Redis and in this instance's share.
    pub(super) async fn forget(&self, account: &LimitHandle, key: &[u8]) -> Result<CorrectionReply, Failure> {
        let corrected = self.correct(&account.keys, key, Correction::Delete).await?;
        // This instance's requests in flight go on, and the next renewal counts them again.
        if let Some(share) = account.share.as_ref().filter(|_| account.keys.permits.is_none()) {
            share.forget(key);
        }
        Ok(corrected)
    }

    /// Corrects a key.
    pub(super) async fn correct(
        &self,
        keys: &LimitKeys,
        key: &[u8],
        correction: Correction,
    ) -> Result<CorrectionReply, Failure> {
        // Redis may have applied the correction even if no reply arrived, or the caller stopped waiting.
        let _changed = OnDrop(|| keys.forget(key));
        self.client.correct(&keys.space, key, correction).await
    }

    /// Takes back up to `cost` units that a decision charged.
    pub(super) fn take_back(self: &Arc<Self>, account: &LimitHandle, key: &[u8], cost: u64, decision: &Decision) {
        if let Some(permits) = &account.keys.permits {
            return self.give_back(account, permits, key, cost.min(decision.charge.units()));
        }
        match (decision.charge, &account.share) {
            (Charge::LocalShare { tick, units }, Some(share)) => {
                let units = cost.min(units);
                share.refund(key, units, tick);
                self.client.dispatcher.debts().forgive(&account.keys.space.names.name(key), units);
            }
            (Charge::Window { tick, units }, _) if cost.min(units) > 0 => {
                self.refund(&account.keys, key, cost.min(units), tick);
            }
            _ => {}
        }
    }

    /// Refunds units in the background, with best effort.
    fn refund(self: &Arc<Self>, keys: &Arc<LimitKeys>, key: &[u8], units: u64, stamp: u64) {
        let (shared, keys, key) = (Arc::clone(self), Arc::clone(keys), Box::<[u8]>::from(key));
        keys.forget(&key);
        let _ = runtime::spawn(async move {
            let _ = shared.correct(&keys, &key, Correction::Refund { stamp, units }).await;
        });
    }
}

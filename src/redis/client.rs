//! The Redis client that the stores use: decisions, corrections, deletion of keys, and the instance count.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Dispatcher, KeyReply, KeyRequest, Payload};
use super::debts;
use super::heartbeat::InstanceCount;
use super::key_name::Keyspace;
use super::options::RedisOptions;
use super::transport::Failure;
use crate::decision::Decision;
use crate::engine::{Limit, Retention};
use crate::error::ConfigError;
use crate::geometry::WindowGeometry;
use crate::keyspace::Settings;
use crate::policy::OnStoreError;
use crate::script::{self, CORRECT, Correction, CorrectionReply, EncodedPolicy, LeaseId, Mode, ScriptReply};

/// A connection to Redis, with the state that all stores of one limiter share.
pub(crate) struct Client {
    /// The geometry of windows on the server's clock, which has no lag.
    pub(crate) geometry: WindowGeometry,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) prefix: Box<str>,
    instances: InstanceCount,
    pub(crate) on_store_error: OnStoreError,
}

impl Client {
    pub(crate) fn new(options: &RedisOptions, settings: &Settings) -> Result<Arc<Self>, ConfigError> {
        let geometry = WindowGeometry::new(settings.bucket_ms, 0, settings.window_seconds, settings.hard)?;
        if geometry.bucket_ms() > u64::from(u32::MAX) {
            return Err(ConfigError::BucketTooLong { most_ms: u64::from(u32::MAX) });
        }
        options.check()?;
        let dispatcher = Dispatcher::new(options.link()?, options.deadline, &options.prefix, geometry.bucket_ms());
        Ok(Arc::new(Self {
            geometry,
            dispatcher,
            prefix: options.prefix.clone(),
            instances: InstanceCount::new(options.instances, &options.prefix),
            on_store_error: options.on_store_error,
        }))
    }

    /// The keys of a limit, or of the engine's own calls if `limit` is `None`.
    pub(crate) fn keyspace(&self, limit: Option<&str>) -> Keyspace {
        Keyspace::new(&self.prefix, limit)
    }

    /// Reads the decision from the reply to a single request.
    pub(crate) fn read(
        &self,
        reply: &KeyReply,
        ask: script::Ask,
        charged: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        self.read_at(&reply.read()?, 0, ask, charged, limits)
    }

    /// Reads the decision on the ask with this index.
    pub(crate) fn read_at(
        &self,
        reply: &ScriptReply<'_>,
        index: usize,
        ask: script::Ask,
        charged: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let now = self.geometry.at(reply.now_ms);
        let outcome = reply.outcome(index, ask, limits, now).ok_or_else(Failure::unreadable)?;
        Ok(self.geometry.decision(&outcome, charged, limits, reply.now_ms))
    }

    /// Decides without a charge.
    pub(crate) async fn look(
        &self,
        keys: &Keyspace,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let ask = script::Ask { cost, random: 0 };
        let reply = self.question(self.policy(keys, Mode::Peek, limits), keys.names.name(key), ask).await?;
        self.read(&reply, ask, 0, limits)
    }

    /// Decides by the hard caps of the limits, without a charge.
    pub(crate) async fn look_at_cap(
        &self,
        keys: &Keyspace,
        key: &[u8],
        cost: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let capped: Vec<Limit> = limits.iter().map(|limit| Limit { capacity: limit.hard, ..*limit }).collect();
        let decision = self.look(keys, key, cost, &capped).await?;
        let limit = limits.get(decision.limit_index).map_or(decision.limit, |limit| limit.capacity);
        Ok(Decision { limit, ..decision })
    }

    /// Returns the suppression factor.
    pub(crate) async fn factor(&self, keys: &Keyspace, key: &[u8], limits: &[Limit]) -> Result<f64, Failure> {
        let reply = self
            .question(self.policy(keys, Mode::Factor, limits), keys.names.name(key), script::Ask { cost: 1, random: 0 })
            .await?;
        reply.read()?.factor(0).ok_or_else(Failure::unreadable)
    }

    /// A policy for decisions on some keys, as the script reads it.
    pub(crate) fn policy(&self, keys: &Keyspace, mode: Mode, limits: &[Limit]) -> EncodedPolicy {
        EncodedPolicy::decide(self.geometry.bucket_ms(), &keys.horizon, mode, limits)
    }

    /// Asks one question by itself, about the key of a name.
    pub(crate) async fn question(
        &self,
        policy: EncodedPolicy,
        name: Box<[u8]>,
        ask: script::Ask,
    ) -> Result<KeyReply, Failure> {
        self.dispatcher.decide(KeyRequest { policy, key: name, body: Payload::Ask(ask) }).await
    }

    /// Records units that this instance's share admitted. The client reports them when Redis answers again.
    pub(crate) fn owe(&self, keys: &Arc<Keyspace>, key: &[u8], units: u64) {
        let apart = debts::apart(self.longest(&keys.horizon));
        self.dispatcher.debts().owe(keys, keys.names.name(key), units, apart);
    }

    /// Returns the longest window of the limits on some keys.
    pub(crate) fn longest(&self, horizon: &Retention) -> Duration {
        Duration::from_millis(u64::from(horizon.keep()).saturating_mul(self.geometry.bucket_ms()))
    }

    /// Sends a heartbeat if one is due.
    pub(crate) fn beat(&self) {
        self.instances.beat(&self.dispatcher);
    }

    /// The number of instances that share the limits, as far as this instance knows.
    pub(crate) fn instances(&self) -> u64 {
        self.instances.count()
    }

    /// Deletes all keys of a limit. After an error, some of the keys are gone.
    pub(crate) async fn clear(&self, keys: &Keyspace) -> Result<(), Failure> {
        self.dispatcher.link().delete_matching(&keys.names.pattern()).await.map(drop)
    }

    /// Takes units of a key from their ticks, and charges `units` now; returns their tick. `is_returning` is true at the
    /// end of an outage, when no other calls are sent.
    pub(crate) async fn renew(
        &self,
        keys: &Keyspace,
        name: &[u8],
        units: u64,
        taken: &[(u64, u64)],
        is_returning: bool,
    ) -> Result<u64, Failure> {
        let policy = EncodedPolicy::renew(self.geometry.bucket_ms(), &keys.horizon, units, taken);
        let answer = match is_returning {
            true => self.dispatcher.run_unjudged(&CORRECT, name, &policy).await?,
            false => self.dispatcher.run(&CORRECT, name, &policy).await?,
        };
        CorrectionReply::read(&answer).map(|reply| reply.newest).ok_or_else(Failure::unreadable)
    }

    /// Refunds units of the key with a name.
    pub(crate) async fn refund_name(&self, keys: &Keyspace, name: &[u8], stamp: u64, units: u64) {
        let (refund, span) = (Correction::Refund { stamp, units }, self.geometry.span());
        let policy = EncodedPolicy::correct(self.geometry.bucket_ms(), &keys.horizon, span, refund);
        let _ = self.dispatcher.run(&CORRECT, name, &policy).await;
    }

    /// Corrects a key. After an error or a cancellation, Redis may still have applied the correction.
    pub(crate) async fn correct(
        &self,
        keys: &Keyspace,
        key: &[u8],
        correction: Correction,
    ) -> Result<CorrectionReply, Failure> {
        let policy = EncodedPolicy::correct(self.geometry.bucket_ms(), &keys.horizon, self.geometry.span(), correction);
        self.correct_by(keys, key, &policy).await
    }

    /// Ends a reservation: keeps the spent units, oldest first, and frees the rest. It applies at most once.
    pub(crate) async fn commit(
        &self,
        keys: &Keyspace,
        key: &[u8],
        id: LeaseId,
        spent: &[(Duration, u64)],
    ) -> Result<CorrectionReply, Failure> {
        let (bucket_ms, span) = (self.geometry.bucket_ms(), self.geometry.span());
        let policy = EncodedPolicy::commit(bucket_ms, &keys.horizon, span, id, spent.iter().copied());
        self.correct_by(keys, key, &policy).await
    }

    /// Charges units, whatever the limits.
    pub(crate) async fn record(&self, keys: &Keyspace, key: &[u8], units: u64) -> Result<CorrectionReply, Failure> {
        let (bucket_ms, span) = (self.geometry.bucket_ms(), self.geometry.span());
        let policy = EncodedPolicy::charge(bucket_ms, &keys.horizon, span, [(Duration::ZERO, units)]);
        self.correct_by(keys, key, &policy).await
    }

    async fn correct_by(
        &self,
        keys: &Keyspace,
        key: &[u8],
        policy: &EncodedPolicy,
    ) -> Result<CorrectionReply, Failure> {
        let answer = self.dispatcher.run(&CORRECT, &keys.names.name(key), policy).await?;
        CorrectionReply::read(&answer).ok_or_else(Failure::unreadable)
    }
}

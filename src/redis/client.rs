//! One Redis as the stores see it: asking, correcting and clearing keys, and counting instances.

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
use crate::script::{self, CORRECT, Correction, CorrectionReply, EncodedPolicy, Mode};

/// A connection to Redis, with all that the stores of one limiter share on it.
pub(crate) struct Client {
    /// Windows by the server's clock, which does not lag.
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

    /// The keys of a limit, or without a name those of the engine's own calls.
    pub(crate) fn keyspace(&self, limit: Option<&str>) -> Keyspace {
        Keyspace::new(&self.prefix, limit)
    }

    /// The decision that an answer to one ask holds.
    pub(crate) fn read(
        &self,
        reply: &KeyReply,
        ask: script::Ask,
        charged: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let answered = reply.read()?;
        let now = self.geometry.at(answered.now_ms);
        let outcome = answered.outcome(0, ask, limits, now).ok_or_else(Failure::unreadable)?;
        Ok(self.geometry.decision(&outcome, charged, limits, answered.now_ms))
    }

    /// Asks, and charges nothing.
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

    /// The suppressed strategy's factor.
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

    /// Notes units that this instance's share admitted, to tell Redis as soon as it answers.
    pub(crate) fn owe(&self, keys: &Arc<Keyspace>, key: &[u8], units: u64) {
        let apart = debts::apart(self.longest(&keys.horizon));
        self.dispatcher.debts().owe(keys, keys.names.name(key), units, apart);
    }

    /// The longest window of the limits on some keys.
    pub(crate) fn longest(&self, horizon: &Retention) -> Duration {
        let (spans, count) = horizon.spans();
        let ticks = spans[..count].iter().max().copied().unwrap_or(0);
        Duration::from_millis(u64::from(ticks).saturating_mul(self.geometry.bucket_ms()))
    }

    /// Says that this instance is there, where that is due.
    pub(crate) fn beat(&self) {
        self.instances.beat(&self.dispatcher);
    }

    /// By how many instances the limits are shared, as far as is known.
    pub(crate) fn instances(&self) -> u64 {
        self.instances.count()
    }

    /// Forgets all keys of a name. If it ends early, some keys are gone.
    pub(crate) async fn clear(&self, keys: &Keyspace) -> Result<(), Failure> {
        self.dispatcher.link().delete_matching(&keys.names.pattern()).await.map(drop)
    }

    /// Corrects a key. Even if no answer came, or nobody waited for it, Redis may have done it.
    pub(crate) async fn correct(
        &self,
        keys: &Keyspace,
        key: &[u8],
        correction: Correction,
    ) -> Result<CorrectionReply, Failure> {
        let policy = EncodedPolicy::correct(self.geometry.bucket_ms(), &keys.horizon, self.geometry.span(), correction);
        let answer = self.dispatcher.run(&CORRECT, &keys.names.name(key), &policy).await?;
        CorrectionReply::read(&answer).ok_or_else(Failure::unreadable)
    }
}

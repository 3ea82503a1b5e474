//! One Redis as the stores see it: asking, correcting and clearing keys, and counting instances.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Body, Lanes, Question, Reply};
use super::debts;
use super::heartbeat::Instances;
use super::key_name::Keyspace;
use super::options::RedisOptions;
use super::transport::Failure;
use crate::decision::Decision;
use crate::engine::{Horizon, Limit};
use crate::error::ConfigError;
use crate::geometry::WindowGeometry;
use crate::keyspace::Settings;
use crate::policy::OnStoreError;
use crate::script::{self, CORRECT, Corrected, Correction, Mode, PolicyBytes};

/// A connection to Redis, with all that the stores of one limiter share on it.
pub(crate) struct Client {
    /// Windows by the server's clock, which does not lag.
    pub(crate) scale: WindowGeometry,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) prefix: Box<str>,
    instances: Instances,
    pub(crate) on_store_error: OnStoreError,
}

impl Client {
    pub(crate) fn new(options: &RedisOptions, settings: &Settings) -> Result<Arc<Self>, ConfigError> {
        let scale = WindowGeometry::new(settings.bucket_ms, 0, settings.window_seconds, settings.hard)?;
        if scale.bucket_ms() > u64::from(u32::MAX) {
            return Err(ConfigError::BucketTooLong { most_ms: u64::from(u32::MAX) });
        }
        options.check()?;
        let lanes = Lanes::new(options.link()?, options.deadline, &options.prefix, scale.bucket_ms());
        Ok(Arc::new(Self {
            scale,
            lanes,
            prefix: options.prefix.clone(),
            instances: Instances::new(options.instances, &options.prefix),
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
        reply: &Reply,
        ask: script::Ask,
        charged: u64,
        limits: &[Limit],
    ) -> Result<Decision, Failure> {
        let answered = reply.read()?;
        let now = self.scale.at(answered.now_ms);
        let outcome = answered.outcome(0, ask, limits, now).ok_or_else(Failure::unreadable)?;
        Ok(self.scale.decision(&outcome, charged, limits, answered.now_ms))
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
        let reply = self.question(keys, key, Mode::Look, limits, ask).await?;
        self.read(&reply, ask, 0, limits)
    }

    /// The suppressed strategy's factor.
    pub(crate) async fn factor(&self, keys: &Keyspace, key: &[u8], limits: &[Limit]) -> Result<f64, Failure> {
        let reply = self.question(keys, key, Mode::Factor, limits, script::Ask { cost: 1, random: 0 }).await?;
        reply.read()?.factor(0).ok_or_else(Failure::unreadable)
    }

    /// Asks one question by itself.
    pub(crate) async fn question(
        &self,
        keys: &Keyspace,
        key: &[u8],
        mode: Mode,
        limits: &[Limit],
        ask: script::Ask,
    ) -> Result<Reply, Failure> {
        let policy = PolicyBytes::decide(self.scale.bucket_ms(), &keys.horizon, mode, limits);
        self.lanes.decide(Question { policy, key: keys.names.name(key), body: Body::Ask(ask) }).await
    }

    /// Notes units that this instance's share admitted, to tell Redis as soon as it answers.
    pub(crate) fn owe(&self, keys: &Arc<Keyspace>, key: &[u8], units: u64) {
        let apart = debts::apart(self.longest(&keys.horizon));
        self.lanes.debts().owe(keys, keys.names.name(key), units, apart);
    }

    /// The longest window of the limits on some keys.
    pub(crate) fn longest(&self, horizon: &Horizon) -> Duration {
        let (spans, count) = horizon.spans();
        let ticks = spans[..count].iter().max().copied().unwrap_or(0);
        Duration::from_millis(u64::from(ticks).saturating_mul(self.scale.bucket_ms()))
    }

    /// Says that this instance is there, where that is due.
    pub(crate) fn beat(&self) {
        self.instances.beat(&self.lanes);
    }

    /// By how many instances the limits are shared, as far as is known.
    pub(crate) fn instances(&self) -> u64 {
        self.instances.count()
    }

    /// Forgets all keys of a name. If it ends early, some keys are gone.
    pub(crate) async fn clear(&self, keys: &Keyspace) -> Result<(), Failure> {
        self.lanes.link().delete_matching(&keys.names.pattern()).await.map(drop)
    }

    /// Corrects a key. Even if no answer came, or nobody waited for it, Redis may have done it.
    pub(crate) async fn correct(
        &self,
        keys: &Keyspace,
        key: &[u8],
        correction: Correction,
    ) -> Result<Corrected, Failure> {
        let policy = PolicyBytes::correct(self.scale.bucket_ms(), &keys.horizon, self.scale.span(), correction);
        let answer = self.lanes.run(&CORRECT, &keys.names.name(key), &policy).await?;
        Corrected::read(&answer).ok_or_else(Failure::unreadable)
    }
}

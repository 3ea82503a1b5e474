//! Looks at a layer, and changes it, while it serves requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ban::{BuiltBan, no_ban};
use super::builder::RateLimitLayerBuilder;
use super::built_limit::BuiltLimit;
use super::config::RateLimitConfig;
use super::current::Current;
use super::in_flight::cap::{charges_a_cap, outlasts};
use super::mode::LimitMode;
use super::rate_limit_layer::RateLimitLayer;
use super::several::tightness;
use super::top_keys::TopKeysReport;
use crate::decision::Decision;
use crate::error::{ConfigError, StoreError, shortened};
use crate::key::{Key, KeyParts, KeyShape, KeyWriter};
use crate::store::BudgetRequest;

/// A handle to a layer and its limits. Clones control the same layer.
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, Limit, RateLimitLayer};
///
/// let layer = RateLimitLayer::builder()
///     .limit(Limit::per(ClientIp::peer()).quota("50/s").name("client").shadow())
///     .build()?;
/// let control = layer.control();
/// // Later, without a restart:
/// control.limit("client")?.enforce();
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Control {
    pub(super) current: Arc<Current>,
}

/// One limit of a layer; see [`Control::limit`].
///
/// If an [`update`](Control::update) removes the limit, its mode is [`LimitMode::Off`], and it has no keys.
#[derive(Clone)]
pub struct LimitControl {
    current: Arc<Current>,
    name: Arc<str>,
}

/// One key of a limit; see [`LimitControl::key`].
#[derive(Clone)]
pub struct KeyControl {
    limit: LimitControl,
    pub(super) key: Box<[u8]>,
}

impl RateLimitLayer {
    /// A handle that looks at the layer and changes it while it serves requests.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { current: Arc::clone(&self.current) }
    }
}

impl Control {
    /// The limit with this name.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::UnknownLimit`] if the layer has no such limit.
    pub fn limit(&self, name: &str) -> Result<LimitControl, ConfigError> {
        self.limits().find(|limit| limit.name() == name).ok_or_else(|| ConfigError::UnknownLimit {
            name: shortened(name),
            known: self.limits().map(|limit| limit.name().to_owned()).collect(),
        })
    }

    /// All limits, in the order of the layer.
    pub fn limits(&self) -> impl Iterator<Item = LimitControl> {
        let state = self.current.get();
        let names: Vec<Arc<str>> = state.limits.iter().map(|limit| limit.tiers.policy().name().into()).collect();
        let current = Arc::clone(&self.current);
        names.into_iter().map(move |name| LimitControl { current: Arc::clone(&current), name })
    }

    /// Replaces everything that the layer's builder defined, for all later requests.
    ///
    /// Limits with the same name keep their histories: no count is lost, and the new quotas apply to the units in use.
    /// Without a [`limiter`](crate::RateLimitLayerBuilder::limiter), the layer keeps its store. Requests under way end
    /// as they began. The modes are those of the builder, whatever a control set before.
    ///
    /// # Errors
    ///
    /// Returns the [`ConfigError`] that `build` would return. The layer is then unchanged. A layer with a store of its
    /// own keeps the buckets of that store, so it returns an error if a new window is shorter than a bucket, or too long
    /// for the buckets.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// let policy = |quota| RateLimitLayer::builder().limit(Limit::per(ClientIp::peer()).quota(quota).name("client"));
    /// let layer = policy("50/s").build()?;
    /// layer.control().update(policy("80/s"))?;
    /// assert!(layer.control().update(policy("often")).is_err());
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn update(&self, builder: RateLimitLayerBuilder) -> Result<(), ConfigError> {
        self.current.update(|old| builder.build_state(Some(old)))
    }

    /// Replaces the configuration of the layer, for all later requests. What the code set stays.
    ///
    /// Limits with the same name keep their histories, as with [`update`](Self::update). The limits of the
    /// configuration have the modes in it, and the limits of the code keep the modes that they have. The layer may have
    /// had no configuration before.
    ///
    /// # Errors
    ///
    /// Returns the [`ConfigError`] that `build` would return. The layer is then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::from_config("client  client-ip  50/s  absolute  enforce".parse()?)?;
    /// layer.control().reload("client  client-ip  80/s  absolute  enforce".parse()?)?;
    /// assert!(layer.to_string().contains("80/s"));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn reload(&self, config: RateLimitConfig) -> Result<(), ConfigError> {
        self.current.update(|old| old.source.reloaded(old, config).build_state(Some(old)))
    }
}

impl LimitControl {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> LimitMode {
        self.visit(|limit| limit.mode.get()).unwrap_or(LimitMode::Off)
    }

    /// Sets the mode, for all later requests.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidPercentage`].
    pub fn set_mode(&self, mode: LimitMode) -> Result<(), ConfigError> {
        match mode {
            LimitMode::EnforceFor(percent) if !mode.is_valid() => Err(ConfigError::InvalidPercentage(percent)),
            _ => {
                self.visit(|limit| limit.set_mode(mode));
                Ok(())
            }
        }
    }

    /// Enforces the limit for all keys.
    pub fn enforce(&self) {
        self.visit(|limit| limit.set_mode(LimitMode::Enforce));
    }

    /// Lets the limit decide and count without refusing anything.
    pub fn shadow(&self) {
        self.visit(|limit| limit.set_mode(LimitMode::Shadow));
    }

    /// Switches the limit off. Its histories stay until their windows have passed.
    pub fn off(&self) {
        self.visit(|limit| limit.set_mode(LimitMode::Off));
    }

    /// A key of the limit, by the value that its key extractor writes: the user of an `Extension<User>`, or the text of
    /// a `Header`. For [`ClientIp`](crate::ClientIp), it is the address of the client, and the key is that of its
    /// [network](crate::ClientIp::network).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_weir::key::Header;
    /// use tower_weir::{Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-tenant")).quota("100/h").name("tenant"))
    ///     .build()?;
    /// // Unblock this customer:
    /// layer.control().limit("tenant")?.key("acme").reset().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn key<K: Key + ?Sized>(&self, key: &K) -> KeyControl {
        let mut bytes = KeyWriter::new();
        bytes.write(key);
        self.fitted(bytes.as_bytes()).unwrap_or(KeyControl { limit: self.clone(), key: bytes.as_bytes().into() })
    }

    /// The key with these bytes. An address becomes that of its network. Returns `None` if no request of the limit can
    /// have such a key.
    pub(crate) fn fitted(&self, key: &[u8]) -> Option<KeyControl> {
        let parts = KeyParts::read(key)?;
        let mut bytes = KeyWriter::new();
        bytes.write(&self.visit(|limit| KeyShape::of(&limit.key.text()).fit(parts))??);
        Some(KeyControl { limit: self.clone(), key: bytes.as_bytes().into() })
    }

    /// The one key of a limit per [`Global`](crate::Global).
    #[must_use]
    pub fn global(&self) -> KeyControl {
        KeyControl { limit: self.clone(), key: Box::default() }
    }

    /// The busiest keys of the limit, or `None` if it does not [track](crate::Limit::top_keys) its keys.
    ///
    /// The report covers the requests to this instance in the last one to two periods.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::Header;
    /// use tower_weir::{Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-tenant")).quota("100/h").name("tenant").top_keys("100 names"))
    ///     .build()?;
    /// if let Some(report) = layer.control().limit("tenant")?.top_keys() {
    ///     for key in report.by_refusals().iter().take(10) {
    ///         let name = key.name().map(ToString::to_string).unwrap_or_default();
    ///         println!("{} {name}: {} to {} refusals", key.id(), key.refusals().at_least, key.refusals().at_most);
    ///     }
    /// }
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn top_keys(&self) -> Option<TopKeysReport> {
        let tracker = self.visit(|limit| limit.top_keys.clone())?;
        tracker.map(|tracker| tracker.report())
    }

    pub(super) fn visit<R>(&self, visit: impl FnOnce(&BuiltLimit) -> R) -> Option<R> {
        self.current.get().limit(&self.name).map(visit)
    }
}

impl KeyControl {
    /// The units in use and the time until they are free, without a charge: the decision on a request that costs
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot answer.
    pub async fn usage(&self) -> Result<Option<Decision>, StoreError> {
        self.peek(0).await
    }

    /// The decision that a request of this cost would get. Nothing is charged.
    ///
    /// Of the suppressed strategy, only the hard cap counts, and no ban does. If the limit has other quotas for some routes, it is the
    /// decision of the tightest. It is `None` if the limit has no quotas yet, because a function chooses them and no
    /// request has come.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot answer.
    pub async fn peek(&self, cost: u64) -> Result<Option<Decision>, StoreError> {
        let is_cap = self.is_cap();
        let mut tightest: Option<Decision> = None;
        for tier in self.limit.visit(BuiltLimit::all_tiers).unwrap_or_default() {
            let decision = tier.budget.peek(BudgetRequest::new(&self.key, cost)).complete().await?;
            let decision = if is_cap { outlasts(decision) } else { decision };
            tightest = tightest.into_iter().chain([decision]).min_by_key(tightness);
        }
        Ok(tightest)
    }

    /// Forgets the key's history, for every route of the limit. A ban of the key ends, and its refusals are forgotten.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached. Some of the histories may be forgotten then.
    pub async fn reset(&self) -> Result<(), StoreError> {
        self.set(0).await?;
        match self.ban() {
            Ok(ban) => ban.unblock(&self.key).await,
            Err(_) => Ok(()),
        }
    }

    /// Bans the key for a time, which is at most that of the limit's [ban](crate::Limit::ban). It replaces a ban of the
    /// key that has begun.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached, and of the kind
    /// [`NotConfigured`](crate::StoreErrorKind::NotConfigured) if the limit has no ban, or a shorter one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tower_weir::key::Header;
    /// use tower_weir::{Ban, Limit, RateLimitLayer};
    ///
    /// let ban = Ban::manual().lasting(Duration::from_secs(86_400));
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-tenant")).quota("100/h").name("tenant").ban(ban))
    ///     .build()?;
    /// let acme = layer.control().limit("tenant")?.key("acme");
    /// acme.block(Duration::from_secs(600)).await?;
    /// assert!(acme.blocked_for().await?.is_some_and(|time| time.as_secs() >= 599));
    /// acme.unblock().await?;
    /// assert_eq!(acme.blocked_for().await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn block(&self, time: Duration) -> Result<(), StoreError> {
        self.ban()?.block(&self.key, time).await
    }

    /// Ends the ban of the key, and forgets its refusals. Its units in use stay.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`block`](Self::block).
    pub async fn unblock(&self) -> Result<(), StoreError> {
        self.ban()?.unblock(&self.key).await
    }

    /// The rest of the key's ban, or `None` if it is not banned.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`block`](Self::block).
    pub async fn blocked_for(&self) -> Result<Option<Duration>, StoreError> {
        let decision = self.ban()?.peek(&self.key).await?;
        Ok(decision.retry_after().filter(|_| !decision.is_allowed()))
    }

    fn is_cap(&self) -> bool {
        self.limit.visit(|limit| limit.is_cap).unwrap_or(false)
    }

    fn ban(&self) -> Result<Arc<BuiltBan>, StoreError> {
        self.limit.visit(|limit| limit.ban.clone()).flatten().ok_or_else(no_ban)
    }

    /// Sets the units that the key has in use, dated now, for every route of the limit.
    ///
    /// It checks no quota. With more units than a quota has, the key is refused until its window has passed. The count
    /// is capped at 2^39.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached, or if a local store is full and does not know the key.
    /// Some of the histories may be set then.
    pub async fn set(&self, count: u64) -> Result<(), StoreError> {
        if count > 0 && self.is_cap() {
            return Err(charges_a_cap());
        }
        for tier in self.limit.visit(BuiltLimit::all_tiers).unwrap_or_default() {
            tier.budget.set(&self.key, count, Duration::ZERO).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.limits()).finish()
    }
}

impl fmt::Debug for LimitControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitControl").field("name", &self.name()).field("mode", &self.mode()).finish()
    }
}

impl fmt::Debug for KeyControl {
    /// Omits the key, because it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyControl").field("limit", &self.limit).finish_non_exhaustive()
    }
}

//! The setters for limits that track their busiest keys.

use std::sync::Arc;

use super::build::Building;
use super::builder::RateLimitLayerBuilder;
use super::limit::Limit;
use super::top_keys::Tracker;
use crate::error::ConfigError;
use crate::quota::TopKeys;

impl Limit {
    /// Tracks the busiest keys of this limit, for [`LimitControl::top_keys`](crate::layer::LimitControl::top_keys). The
    /// setting is a [`TopKeys`] or its text.
    ///
    /// There are two rankings: by requests, and by refusals. A request that the limit would refuse in shadow counts as
    /// refused. Requests without a key are not tracked. Memory is bounded, and the report states the error of each
    /// count. Only this instance's requests count, also if the limit is shared through Redis.
    ///
    /// After an [`update`](crate::layer::Control::update) or a reload, a limit with the same name and the same setting
    /// keeps its counts. Any other change starts new ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::Header;
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer, TopKeys};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-tenant")).quota("500/s").name("tenant").top_keys(TopKeys::names(100)))
    ///     .limit(Limit::per(ClientIp::peer()).quota("10/s").name("client").top_keys("100 ids"))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn top_keys<T>(mut self, top_keys: T) -> Self
    where
        T: TryInto<TopKeys, Error: Into<ConfigError>>,
    {
        match top_keys.try_into() {
            Ok(top_keys) => self.top_keys = Some(top_keys),
            Err(error) => self.fail(error),
        }
        self
    }
}

impl RateLimitLayerBuilder {
    /// Tracks the busiest keys; see [`Limit::top_keys`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{RateLimitLayer, TopKeys};
    ///
    /// let layer = RateLimitLayer::builder().quotas(["100/min"]).top_keys(TopKeys::ids(100)).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn top_keys<T>(mut self, top_keys: T) -> Self
    where
        T: TryInto<TopKeys, Error: Into<ConfigError>>,
    {
        self.short = self.short.top_keys(top_keys);
        self
    }
}

impl Building<'_> {
    /// The tracker of a limit. That of an old limit with this name goes on if it has the same setting.
    pub(super) fn tracker(&self, name: &str, top_keys: Option<TopKeys>) -> Result<Option<Arc<Tracker>>, ConfigError> {
        let Some(setting) = top_keys.map(TopKeys::checked).transpose()? else { return Ok(None) };
        let old = self.old.and_then(|old| old.limit(name));
        let kept = old.and_then(|old| old.top_keys.as_ref()).filter(|tracker| tracker.setting() == setting);
        Ok(Some(kept.map_or_else(|| Arc::new(Tracker::new(setting)), Arc::clone)))
    }
}

//! Where Redis is, and what a limiter expects of it.

use std::fmt;
use std::time::Duration;

use redis::aio::ConnectionLike;

use super::link::Link;
use crate::error::ConfigError;
use crate::store::OnStoreError;

/// The options of a [`Redis`](crate::Redis) store.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::{RateLimiter, RedisOptions};
///
/// let redis = RedisOptions::url("redis://127.0.0.1:6379").deadline(Duration::from_millis(20));
/// let rl = RateLimiter::builder().redis(redis).build()?; // Redis need not run yet
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "a limiter's builder takes them with `redis`"]
pub struct RedisOptions {
    source: Source,
    pub(super) prefix: Box<str>,
    pub(super) deadline: Duration,
    pub(super) instances: Option<u64>,
    pub(super) on_store_error: OnStoreError,
    pub(super) denies: bool,
}

#[derive(Clone)]
enum Source {
    Url(String),
    Link(Link),
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<String>),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(Vec<String>, String),
}

impl RedisOptions {
    /// One server, as in `redis://user:password@host:6379/0`, `rediss://` for TLS (feature `redis-rustls`), or
    /// `unix:///path`. It is connected to on the first use, and again whenever the connection is lost.
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(Source::Url(url.into()))
    }

    /// A connection that was made elsewhere: multiplexed, a connection manager, a cluster's, or one's own.
    ///
    /// Reconnecting is then its own affair, and so is how often it sends a command: one that repeats commands
    /// whose answer was lost may charge twice. Give it `TCP_NODELAY`.
    pub fn connection(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::of(Source::Link(Link::over(connection)))
    }

    /// A connection to a cluster that was made elsewhere and wrapped; one that redis made is known by its type.
    pub fn cluster_connection(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::of(Source::Link(Link::over_cluster(connection)))
    }

    /// A cluster, by the URLs of some of its nodes.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of(Source::Cluster(urls.into_iter().map(Into::into).collect()))
    }

    /// The master of this name that the sentinels at these URLs know; asked anew at each connect.
    #[cfg(feature = "redis-sentinel")]
    pub fn sentinel(urls: impl IntoIterator<Item = impl Into<String>>, master: impl Into<String>) -> Self {
        Self::of(Source::Sentinel(urls.into_iter().map(Into::into).collect(), master.into()))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            prefix: "weir".into(),
            deadline: Duration::from_millis(50),
            instances: None,
            on_store_error: OnStoreError::default(),
            denies: true,
        }
    }

    /// Sets what every key begins with, without braces; default `weir`. Limiters that share a server and a
    /// prefix share their limits.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a decision may take; default 50 ms. After it the request follows
    /// [`on_store_error`](Self::on_store_error), and its charge may have been made all the same.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets what the engine's own calls do while Redis cannot decide; default [`OnStoreError::LocalShare`].
    /// A layer has a setting of its own.
    pub fn on_store_error(mut self, policy: OnStoreError) -> Self {
        self.on_store_error = policy;
        self
    }

    /// Sets by how many instances the limits are shared while Redis is gone. Default is to count them: each
    /// says every 5 s in a key of its own that it is there.
    pub fn instances(mut self, instances: u64) -> Self {
        self.instances = Some(instances);
        self
    }

    /// Sets whether keys over their limit are refused here until they free up; default true.
    ///
    /// While a refusal stands, a reset or a raised limit by another instance is not seen.
    pub fn deny_cache(mut self, on: bool) -> Self {
        self.denies = on;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(ConfigError::InvalidRedisPrefix(self.prefix.to_string()));
        }
        if self.deadline < Duration::from_millis(1) {
            return Err(ConfigError::ZeroDeadline);
        }
        match self.instances {
            Some(0) => Err(ConfigError::ZeroInstances),
            _ => Ok(()),
        }
    }

    pub(super) fn link(&self) -> Result<Link, ConfigError> {
        match &self.source {
            Source::Url(url) => Link::to_url(url),
            Source::Link(link) => Ok(link.clone()),
            #[cfg(feature = "redis-cluster")]
            Source::Cluster(urls) => Link::to_cluster(urls.iter().map(String::as_str)),
            #[cfg(feature = "redis-sentinel")]
            Source::Sentinel(urls, master) => Link::to_sentinel(urls.iter().map(String::as_str), master),
        }
    }
}

impl fmt::Debug for RedisOptions {
    /// URLs may hold passwords and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("deadline", &self.deadline)
            .field("instances", &self.instances)
            .field("on_store_error", &self.on_store_error)
            .field("deny_cache", &self.denies)
            .finish_non_exhaustive()
    }
}

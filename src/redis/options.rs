//! Where Redis is, and what a limiter expects of it.

use std::fmt;
use std::time::Duration;

use redis::aio::ConnectionLike;

use super::transport::Transport;
use crate::error::ConfigError;
use crate::policy::OnStoreError;

/// Where [`Redis`](crate::store::RedisStore) is, and what a limiter expects of it.
///
/// It begins with one of [`url`](Self::url), [`connection`](Self::connection), `cluster` or `sentinel`; the
/// rest has defaults. Nothing is connected to before the first decision, so that no start-up fails because
/// Redis is down.
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
    pub(crate) denies: bool,
}

#[derive(Clone)]
enum Source {
    Url(String),
    Transport(Transport),
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<String>),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(Vec<String>, String),
}

impl RedisOptions {
    /// One server, as in `redis://user:password@host:6379/0`, `rediss://` for TLS (feature `redis-rustls`), or
    /// `unix:///path`.
    ///
    /// It has to be the master. TLS trusts the system's authorities, or those in the PEM file that `SSL_CERT_FILE` names;
    /// for a certificate of the client build a [`connection`](Self::connection). There is one connection for all tasks, with `TCP_NODELAY`, which is made on the
    /// first use and again whenever it is lost; the host's name is resolved each time. User and password are
    /// percent-encoded (`%40` for `@`).
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(Source::Url(url.into()))
    }

    /// A connection that was made elsewhere: multiplexed, a connection manager, a cluster's, or one's own.
    ///
    /// Reconnecting is then its own affair, and so is how often it sends a command: one that repeats commands
    /// whose answer was lost may charge twice. Give it `TCP_NODELAY`, which redis 1 leaves off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use redis::io::tcp::TcpSettings;
    /// use redis::{Client, IntoConnectionInfo};
    /// use tower_weir::{RateLimiter, RedisOptions};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = "redis://127.0.0.1:6379".into_connection_info()?;
    /// let server = server.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    /// let connection = Client::open(server)?.get_multiplexed_async_connection().await?;
    /// let rl = RateLimiter::builder().redis(RedisOptions::connection(connection)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::of(Source::Transport(Transport::over(connection)))
    }

    /// A connection to a cluster that was made elsewhere and wrapped; one that redis made is known by its type.
    pub fn cluster_connection(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::of(Source::Transport(Transport::over_cluster(connection)))
    }

    /// A cluster, by the URLs of some of its nodes; the others are found.
    ///
    /// The URLs differ in host and port only: user, password and TLS are the same for all nodes. While a node
    /// is down, only the keys in its slots follow [`on_store_error`](Self::on_store_error) if the servers have
    /// `cluster-require-full-coverage no`. By Redis's default, `yes`, all keys do until a replica is promoted.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of(Source::Cluster(urls.into_iter().map(Into::into).collect()))
    }

    /// The master of this name that the sentinels at these URLs know; asked anew at each connect and twice a second.
    ///
    /// The URLs hold the user and password of the sentinels, if they have any. Those of the master itself, its
    /// database and TLS stand in a URL with its name as the host: `redis://user:password@mymaster/2`.
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
    /// prefix share their limits, name by name, and count as instances of each other: give each service a prefix
    /// of its own, and each process one limiter.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a decision may take, 1 ms to 1 s; default 50 ms.
    ///
    /// After it the request follows [`on_store_error`](Self::on_store_error), and may have been charged all the
    /// same. After five failed round trips in a row no request waits at all until Redis answers. The first decision
    /// connects within its deadline too; where that takes longer, the connection serves the next ones.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets what the engine's own calls do while Redis cannot decide; default [`OnStoreError::LocalShare`].
    ///
    /// Layers do not follow it: each has an `on_store_error` on its own builder, with the same default.
    pub fn on_store_error(mut self, policy: OnStoreError) -> Self {
        self.on_store_error = policy;
        self
    }

    /// Sets by how many instances the limits are shared while Redis is gone; see [`OnStoreError::LocalShare`].
    ///
    /// By default they are counted: each that admits something says so in Redis every 5 s, and is forgotten
    /// after 16 s. One that has not reached Redis since its start takes itself for the only one.
    pub fn instances(mut self, instances: u64) -> Self {
        self.instances = Some(instances);
        self
    }

    /// Sets whether keys over their limit are refused here, without asking, until they free up; default true.
    ///
    /// So a flood on such a key costs Redis nothing. Up to 100 000 keys of each limit are remembered. While a
    /// refusal stands, a key that *another* instance resets or refunds stays refused here; what this instance
    /// does, and a changed limit, is seen at once. The suppressed strategy always asks.
    pub fn deny_cache(mut self, on: bool) -> Self {
        self.denies = on;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(ConfigError::InvalidRedisPrefix(self.prefix.to_string()));
        }
        if self.deadline < Duration::from_millis(1) || self.deadline > Duration::from_secs(1) {
            return Err(ConfigError::InvalidDeadline(self.deadline));
        }
        match self.instances {
            Some(0) => Err(ConfigError::ZeroInstances),
            _ => Ok(()),
        }
    }

    pub(super) fn link(&self) -> Result<Transport, ConfigError> {
        match &self.source {
            Source::Url(url) => Transport::to_url(url),
            Source::Transport(link) => Ok(link.clone()),
            #[cfg(feature = "redis-cluster")]
            Source::Cluster(urls) => Transport::to_cluster(urls.iter().map(String::as_str)),
            #[cfg(feature = "redis-sentinel")]
            Source::Sentinel(urls, master) => Transport::to_sentinel(urls.iter().map(String::as_str), master),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::RateLimiter;

    #[test]
    fn mistakes_are_found_when_the_limiter_is_built() {
        let build = |options| RateLimiter::builder().redis(options).build().map(drop).unwrap_err();
        let options = || RedisOptions::url("redis://127.0.0.1:1");
        assert!(RateLimiter::builder().redis(options()).build().is_ok(), "Redis need not run");
        for deadline in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(2)] {
            assert_eq!(build(options().deadline(deadline)), ConfigError::InvalidDeadline(deadline));
        }
        for prefix in ["", "a{b", "a}b"] {
            assert_eq!(build(options().prefix(prefix)), ConfigError::InvalidRedisPrefix(prefix.into()));
        }
        assert_eq!(build(options().instances(0)), ConfigError::ZeroInstances);
        let secret = build(RedisOptions::url("http://:secret@host"));
        assert!(matches!(secret, ConfigError::InvalidRedisUrl(_)) && !secret.to_string().contains("secret"));
        assert!(!format!("{:?}", RedisOptions::url("redis://:secret@host")).contains("secret"));
    }
}

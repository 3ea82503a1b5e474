//! The address of Redis, and the options of its use.

use std::fmt;
use std::time::Duration;

use redis::aio::ConnectionLike;

use super::transport::Transport;
use crate::error::ConfigError;
use crate::policy::OnStoreError;

/// The address of Redis, and the options of a limiter that uses it.
///
/// Start with one of [`url`](Self::url), [`connection`](Self::connection), `cluster` or `sentinel`; the rest has
/// defaults. The limiter connects at the first decision, so a service starts even if Redis is down.
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
#[must_use = "pass the options to a limiter's builder with `redis`"]
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
    /// The server must be the master. TLS trusts the system's certificate authorities, or those in the PEM file that
    /// `SSL_CERT_FILE` names. For a client certificate, pass a [`connection`](Self::connection). Percent-encode special
    /// characters in user and password (`%40` for `@`).
    ///
    /// All tasks share one connection with `TCP_NODELAY`. The limiter connects at the first use, and reconnects after
    /// each loss. It resolves the host name at each connect.
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(Source::Url(url.into()))
    }

    /// A connection that you make: multiplexed, a connection manager, a cluster connection, or your own type.
    ///
    /// The connection then controls reconnects and retries. If it repeats a command whose reply was lost, a request may
    /// be charged twice. Set `TCP_NODELAY` on it, because redis 1 does not.
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

    /// A connection to a cluster that you wrapped in your own type. The limiter recognizes the types of redis itself.
    pub fn cluster_connection(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self::of(Source::Transport(Transport::over_cluster(connection)))
    }

    /// A cluster, by the URLs of some of its nodes; the client discovers the others.
    ///
    /// The URLs may differ only in host and port: all nodes have the same user, password and TLS setting.
    ///
    /// While a node is down, keys in its slots follow [`on_store_error`](Self::on_store_error). With Redis's default
    /// `cluster-require-full-coverage yes`, all keys do, until a replica is promoted. With `no`, the other keys do not.
    #[cfg(feature = "redis-cluster")]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of(Source::Cluster(urls.into_iter().map(Into::into).collect()))
    }

    /// The master that sentinels know by this name. The client asks the sentinels at each connect and twice a second.
    ///
    /// The sentinel URLs contain the user and password of the sentinels, if any. For the user, password, database and
    /// TLS of the master, pass a URL with the name as its host: `redis://user:password@mymaster/2`.
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

    /// Sets the prefix of every key, without braces; default `weir`. Limiters that share a server and a prefix share
    /// their limits by name, and count as instances of each other. Use one prefix per service, and one limiter per
    /// process.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the deadline of a decision, 1 ms to 1 s; default 50 ms.
    ///
    /// A decision that misses it follows [`on_store_error`](Self::on_store_error), and may have been charged anyway.
    /// After five failed round trips in a row, no request waits until Redis answers again. The first decision connects
    /// within its deadline too. If connecting takes longer, later decisions use the connection.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets what the engine's own calls do while Redis cannot decide; default [`OnStoreError::LocalShare`].
    ///
    /// Layers ignore this value: each layer has an `on_store_error` on its own builder, with the same default.
    pub fn on_store_error(mut self, policy: OnStoreError) -> Self {
        self.on_store_error = policy;
        self
    }

    /// Sets how many instances share the limits during an outage of Redis; see [`OnStoreError::LocalShare`].
    ///
    /// By default, the instances are counted in Redis. Each instance with traffic sends a heartbeat every 5 s, and
    /// expires 16 s after its last one. An instance that has not reached Redis since its start assumes that it is
    /// alone.
    pub fn instances(mut self, instances: u64) -> Self {
        self.instances = Some(instances);
        self
    }

    /// Sets whether the store refuses a key over its limit from memory, without a call, until units are free; default
    /// true.
    ///
    /// Then a flood on such a key costs Redis nothing. The store remembers up to 100 000 keys per limit. While a
    /// refusal stands, this instance does not see that *another* instance resets or refunds the key. It does see its
    /// own changes, and a changed limit, at once. The suppressed strategy always calls Redis.
    ///
    /// A refusal of a request with several limits is repeated for at most 50 ms. Its wait then lacks a limit that filled
    /// up in this time.
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
    /// Omits the URLs, because they may contain passwords.
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

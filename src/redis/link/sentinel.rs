//! A master that sentinels name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{ConnectionAddr, ConnectionInfo, RedisResult, TlsMode, cmd};

use super::dial::{Dial, config};
use super::live::{Gone, Live};
use super::single_flight::SingleFlight;
use super::{Boxed, Failure, Link, tls, url};
use crate::error::ConfigError;

impl Link {
    /// Links to the master of a name, which the sentinels are asked for at each connect.
    ///
    /// Each URL tells about what it names: the ones of the sentinels hold their user and password, if any.
    /// `master` is the plain name, or a URL with the name as its host, for the master's own user, password,
    /// database, protocol and TLS: `redis://user:password@mymaster/2`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] where a URL is none of Redis's, or there is none, or no name.
    pub(crate) fn to_sentinel<'a>(urls: impl IntoIterator<Item = &'a str>, master: &str) -> Result<Self, ConfigError> {
        let sentinels = urls.into_iter().map(url::parse).collect::<Result<Vec<_>, _>>()?;
        let first = sentinels.first().ok_or(ConfigError::NoRedisUrl)?;
        // The client has one login for all sentinels.
        if sentinels.iter().any(|other| !has_same_login(first, other)) {
            return Err(ConfigError::RedisUrlsDiffer);
        }
        let (name, master) = parse_master(master)?;
        Ok(Self::own(SingleFlight::new(Named { sentinels, name, master, attempts: AtomicUsize::new(0) })))
    }
}

fn has_same_login(one: &ConnectionInfo, other: &ConnectionInfo) -> bool {
    let (one, other) = (one.redis_settings(), other.redis_settings());
    (one.username(), one.password(), one.protocol()) == (other.username(), other.password(), other.protocol())
}

fn parse_master(master: &str) -> Result<(String, ConnectionInfo), ConfigError> {
    if !master.contains("://") {
        return match master {
            "" => Err(ConfigError::InvalidRedisUrl("has no name of a master")),
            name => Ok((name.to_owned(), url::parse("redis://master")?)),
        };
    }
    let info = url::parse(master)?;
    match info.addr() {
        ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. } => Ok((name.clone(), info)),
        _ => Err(ConfigError::InvalidRedisUrl("has no name of a master")),
    }
}

struct Named {
    sentinels: Vec<ConnectionInfo>,
    name: String,
    master: ConnectionInfo,
    /// The attempts so far: each asks another sentinel first, since one that hangs would use up the time.
    attempts: AtomicUsize,
}

impl Named {
    /// A client for one attempt: it keeps nothing from the last one, after which the world may be another.
    fn client(&self) -> RedisResult<SentinelClient> {
        let first = self.attempts.fetch_add(1, Ordering::Relaxed) % self.sentinels.len().max(1);
        let (later, sooner) = self.sentinels.split_at(first);
        let addresses = sooner.iter().chain(later).map(|sentinel| sentinel.addr().clone());
        let mut builder = SentinelClientBuilder::new(addresses, &self.name, SentinelServerType::Master)?
            .set_client_to_redis_tcp_settings(url::tcp_settings())
            .set_client_to_sentinel_tcp_settings(url::tcp_settings());
        let settings = self.master.redis_settings();
        builder = builder.set_client_to_redis_db(settings.db()).set_client_to_redis_protocol(settings.protocol());
        if let Some(username) = settings.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let ConnectionAddr::TcpTls { insecure, .. } = self.master.addr() {
            let mode = if *insecure { TlsMode::Insecure } else { TlsMode::Secure };
            builder = builder.set_client_to_redis_tls_mode(mode);
        }
        let Some(settings) = self.sentinels.first().map(ConnectionInfo::redis_settings) else {
            return builder.build();
        };
        builder = builder.set_client_to_sentinel_protocol(settings.protocol());
        if let Some(username) = settings.username() {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
        builder.build()
    }
}

impl Dial<MultiplexedConnection> for Named {
    fn dial(&self) -> Boxed<'_, Arc<Live<MultiplexedConnection>>> {
        Box::pin(async {
            tls::prepare();
            let gone = Gone::default();
            let config = config(self.master.redis_settings().protocol(), &gone);
            let mut client = self.client().map_err(Failure::of_connect)?;
            let connection = client.get_async_connection_with_config(&config).await;
            Ok(Live::guarded(connection.map_err(Failure::of_connect)?, gone, Some(cmd("PING")))?)
        })
    }

    fn within(&self) -> Duration {
        Duration::from_secs(2)
    }
}

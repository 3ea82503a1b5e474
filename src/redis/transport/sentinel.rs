//! A master that sentinels name, at each connect and twice a second afterwards.
//!
//! A master that an operator replaced keeps running and replying; only the sentinels know of its successor. So each
//! connection has a watch that asks them, and closes the connection as soon as another server is the master.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ConnectionAddr, ConnectionInfo, Value, cmd};
use futures_util::future::{Either, select};

use self::ask::{Master, Sentinels};
use super::backend::Boxed;
use super::cause::{NOAUTH_MESSAGE, WRONGPASS_MESSAGE};
use super::connector::{Connector, connect};
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::guarded_connection::{ClosedFlag, GuardedConnection, ping_until_gone};
use super::link::Transport;
use super::single_flight::SingleFlight;
use super::url;
use crate::error::ConfigError;
use crate::runtime;

mod ask;

/// The interval between two queries of the watch.
const WATCH_EVERY: Duration = Duration::from_millis(500);

const MASTER_LOGIN_MESSAGE: &str = "the Redis master does not accept the user and password; write them in the \
     master's URL, as in redis://user:password@mymaster";
const NOT_MASTER_MESSAGE: &str = "the server that the sentinels name is not a master, or not yet; a failover may be \
     in progress, so check SENTINEL MASTERS";

impl Transport {
    /// Creates a transport to the master of a name. It asks the sentinels at each connect, and during use.
    ///
    /// The sentinel URLs contain the user and password of the sentinels, if any. `master` is the plain name, or a URL
    /// with the name as its host. Such a URL sets the master's user, password, database, protocol and TLS:
    /// `redis://user:password@mymaster/2`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if a URL is not a valid Redis URL, or if the URLs or the name are missing.
    pub(crate) fn to_sentinel<'a>(urls: impl IntoIterator<Item = &'a str>, master: &str) -> Result<Self, ConfigError> {
        let sentinels = urls.into_iter().map(url::parse).collect::<Result<Vec<_>, _>>()?;
        let first = sentinels.first().ok_or(ConfigError::NoRedisUrl)?;
        // The sentinels of one master are one service, so different logins are probably a mistake.
        if sentinels.iter().any(|other| !has_same_login(first, other)) {
            return Err(ConfigError::RedisUrlsDiffer);
        }
        let (name, master) = parse_master(master)?;
        let sentinels = Arc::new(Sentinels::new(sentinels, name));
        Ok(Self::own(SingleFlight::new(Named { sentinels, master, last: Mutex::default() })))
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
    sentinels: Arc<Sentinels>,
    /// The connection settings of the master, except its address.
    master: ConnectionInfo,
    /// The address of the last connect.
    last: Mutex<Option<ConnectionAddr>>,
}

impl Named {
    fn address(&self, master: &Master) -> ConnectionAddr {
        let (host, port) = (master.host.clone(), master.port);
        match self.master.addr() {
            ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            _ => ConnectionAddr::Tcp(host, port),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<ConnectionAddr>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector<MultiplexedConnection> for Named {
    fn dial(&self) -> Boxed<'_, Arc<GuardedConnection<MultiplexedConnection>>> {
        Box::pin(async {
            *self.last() = None;
            let master = self.sentinels.master().await?;
            let address = self.address(&master);
            *self.last() = Some(address.clone());
            let gone = ClosedFlag::default();
            let connection = connect(self.master.clone().set_addr(address), &gone).await.map_err(of_master)?;
            check_role(connection.clone()).await?;
            let watch = until_replaced(Arc::clone(&self.sentinels), master);
            let keeper = either(ping_until_gone(connection.clone()), watch);
            Ok(GuardedConnection::guarded(connection, gone, keeper)?)
        })
    }

    fn within(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn target(&self) -> Option<ConnectionAddr> {
        self.last().clone()
    }
}

/// Adds to a login failure that it concerns the master.
fn of_master(failure: Failure) -> Failure {
    match failure.message() {
        NOAUTH_MESSAGE | WRONGPASS_MESSAGE => failure.renamed(FailureKind::Refused, MASTER_LOGIN_MESSAGE),
        _ => failure,
    }
}

/// A server that was demoted, or is not yet promoted, must not be charged.
async fn check_role(mut connection: MultiplexedConnection) -> Result<(), Failure> {
    let role = Failure::check(connection.send_packed_command(&cmd("ROLE")).await).map_err(of_master)?;
    match &role {
        Value::Array(role) if matches!(role.first(), Some(Value::BulkString(role)) if role == b"master") => Ok(()),
        _ => Err(Failure::new(FailureKind::NothingRan, NOT_MASTER_MESSAGE)),
    }
}

/// Ends when the sentinels name another master.
async fn until_replaced(sentinels: Arc<Sentinels>, master: Master) {
    loop {
        let Ok(pause) = runtime::sleep(WATCH_EVERY) else { return };
        pause.await;
        // A sentinel that is cut off from the others names the old master, with an older epoch.
        if sentinels.master().await.is_ok_and(|now| now.replaces(&master)) {
            return;
        }
    }
}

async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    match select(pin!(one), pin!(other)).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

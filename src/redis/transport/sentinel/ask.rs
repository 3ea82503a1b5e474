//! Asks all sentinels, and decides which reply to trust.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ConnectionInfo, Value, cmd, from_redis_value};
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::redis::transport::cause::{
    NOAUTH_MESSAGE, NOPERM_MESSAGE, UNKNOWN_COMMAND_MESSAGE, UNKNOWN_MASTER_MESSAGE, WRONGPASS_MESSAGE,
};
use crate::redis::transport::connector::connect;
use crate::redis::transport::failure::Failure;
use crate::redis::transport::failure_kind::FailureKind;
use crate::redis::transport::guarded_connection::ClosedFlag;
use crate::runtime;

/// The time limit for one sentinel.
const WITHIN: Duration = Duration::from_secs(1);
/// The time to wait for the other sentinels after the first reply, because they may know a newer master.
const OTHERS_WITHIN: Duration = Duration::from_millis(10);

const LOGIN_MESSAGE: &str = "a sentinel does not accept the user and password; write them in the sentinels' URLs, as \
     in redis://user:password@host:26379. The master's user and password belong in the master's URL";
const NOPERM_SENTINEL_MESSAGE: &str = "the user on the sentinels lacks a permission; grant it there: ACL SETUSER weir \
     reset on >secret resetchannels +sentinel|masters";
const NO_SENTINEL_MESSAGE: &str = "one of the sentinel URLs is the address of a server; write the URLs of the \
     sentinels, which usually have port 26379";
const UNREACHABLE_SENTINELS_MESSAGE: &str = "no sentinel can be reached; check the sentinels' URLs, and whether the \
     sentinels run";
const DOWN_MESSAGE: &str = "the sentinels consider the Redis master down; check SENTINEL MASTERS, and whether a \
     replica can be promoted";

/// The sentinels of a master.
pub(super) struct Sentinels {
    places: Vec<Node>,
    name: String,
}

/// A sentinel, and its connection for as long as that lasts.
struct Node {
    info: ConnectionInfo,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// A sentinel's information about a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    pub(super) host: String,
    pub(super) port: u16,
    /// The configuration epoch, which each failover increases.
    epoch: u64,
    is_down: bool,
}

impl Master {
    /// Whether this is another server than `other`, from newer information.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.epoch >= other.epoch && (&self.host, self.port) != (&other.host, other.port)
    }
}

impl Sentinels {
    pub(super) fn new(infos: Vec<ConnectionInfo>, name: String) -> Self {
        let places = infos.into_iter().map(|info| Node { info, connection: Mutex::default() }).collect();
        Self { places, name }
    }

    /// Returns the master with the newest epoch that a sentinel knows.
    ///
    /// All sentinels are asked at once, so one that hangs or is cut off neither delays nor decides.
    pub(super) async fn master(&self) -> Result<Master, Failure> {
        let mut asked: FuturesUnordered<_> = self.places.iter().map(|place| place.ask(&self.name)).collect();
        let (mut found, mut failure): (Option<Master>, Option<Failure>) = (None, None);
        while let Some(said) = asked.next().await {
            take(said, &mut found, &mut failure);
            if found.is_some() {
                break;
            }
        }
        let mut rest = Box::pin(runtime::sleep(OTHERS_WITHIN)?);
        while found.is_some() {
            match select(asked.next(), rest.as_mut()).await {
                Either::Left((Some(said), _)) => take(said, &mut found, &mut failure),
                _ => break,
            }
        }
        match found {
            Some(master) if master.is_down => Err(Failure::new(FailureKind::Unreachable, DOWN_MESSAGE)),
            Some(master) => Ok(master),
            None => Err(failure.unwrap_or_else(|| Failure::new(FailureKind::Unreachable, UNKNOWN_MASTER_MESSAGE))),
        }
    }
}

/// Keeps the newest information, and prefers a failure that a sentinel replied.
fn take(said: Result<Option<Master>, Failure>, found: &mut Option<Master>, failure: &mut Option<Failure>) {
    match said {
        Ok(Some(master)) => {
            let rank = |master: &Master| (master.epoch, !master.is_down);
            if found.as_ref().is_none_or(|other| rank(&master) > rank(other)) {
                *found = Some(master);
            }
        }
        Ok(None) => *failure = Some(Failure::new(FailureKind::Unreachable, UNKNOWN_MASTER_MESSAGE)),
        Err(why) => {
            if why.kind() == FailureKind::Refused || failure.is_none() {
                *failure = Some(why);
            }
        }
    }
}

impl Node {
    fn connection(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the master that this sentinel knows by `name`, or `None`.
    async fn ask(&self, name: &str) -> Result<Option<Master>, Failure> {
        let known = self.connection().clone();
        let is_known = known.is_some();
        let mut answer = self.masters(known).await;
        // The connection may have ended since the last query, or with its runtime.
        if is_known && answer.is_err() {
            answer = self.masters(None).await;
        }
        let masters: Vec<HashMap<String, String>> = from_redis_value(answer?)
            .map_err(|_| Failure::protocol("the reply of a sentinel is not a list of masters"))?;
        Ok(masters.iter().find(|master| master.get("name").is_some_and(|said| said == name)).and_then(read))
    }

    async fn masters(&self, known: Option<MultiplexedConnection>) -> Result<Value, Failure> {
        let trip = async {
            let mut connection = match known {
                Some(connection) => connection,
                None => connect(self.info.clone(), &ClosedFlag::default()).await.map_err(of_sentinel)?,
            };
            let mut command = cmd("SENTINEL");
            command.arg("MASTERS");
            let answer = Failure::check(connection.send_packed_command(&command).await).map_err(of_sentinel)?;
            Ok((answer, connection))
        };
        let result = match runtime::timeout(WITHIN, trip)?.await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(FailureKind::Unreachable, UNREACHABLE_SENTINELS_MESSAGE)),
        };
        let (result, connection) = match result {
            Ok((answer, connection)) => (Ok(answer), Some(connection)),
            Err(failure) => (Err(failure), None),
        };
        *self.connection() = connection;
        result
    }
}

fn read(fields: &HashMap<String, String>) -> Option<Master> {
    let flags = fields.get("flags").map_or("", String::as_str);
    Some(Master {
        host: fields.get("ip").filter(|host| !host.is_empty())?.clone(),
        port: fields.get("port")?.parse().ok()?,
        epoch: fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        is_down: flags.split(',').any(|flag| flag == "o_down" || flag == "s_down"),
    })
}

/// Adds to a failure that it concerns a sentinel, which has its own login and permissions.
fn of_sentinel(failure: Failure) -> Failure {
    let message = match failure.message() {
        NOAUTH_MESSAGE | WRONGPASS_MESSAGE => LOGIN_MESSAGE,
        NOPERM_MESSAGE => NOPERM_SENTINEL_MESSAGE,
        UNKNOWN_COMMAND_MESSAGE => NO_SENTINEL_MESSAGE,
        _ if failure.kind() == FailureKind::Unreachable && !failure.is_exact() => UNREACHABLE_SENTINELS_MESSAGE,
        _ if failure.kind() == FailureKind::ConnectionLost => UNREACHABLE_SENTINELS_MESSAGE,
        other => other,
    };
    let kind = match failure.kind() {
        FailureKind::ConnectionLost => FailureKind::Unreachable,
        kind => kind,
    };
    failure.renamed(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(port: u16, epoch: u64) -> Master {
        Master { host: "10.0.0.1".into(), port, epoch, is_down: false }
    }

    #[test]
    fn a_sentinel_that_was_cut_off_does_not_decide() {
        let (mut found, mut failure) = (None, None);
        for said in [master(1, 3), master(2, 4), master(1, 3)] {
            take(Ok(Some(said)), &mut found, &mut failure);
        }
        assert_eq!(found, Some(master(2, 4)));
        assert!(master(2, 4).replaces(&master(1, 3)));
        assert!(!master(1, 3).replaces(&master(2, 4)) && !master(2, 4).replaces(&master(2, 4)));
    }
}

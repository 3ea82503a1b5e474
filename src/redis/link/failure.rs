//! What a failure means: did the command run, is the connection still good, and what can be done.

use std::error::Error;
use std::fmt;

use ::redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use crate::error::{StoreError, StoreErrorKind};
use crate::redis::runtime::NoRuntime;

/// Stands for a connection that was lost under a command; see `cluster::node`.
pub(super) const LOST: &str = "WEIRLOST";
/// Stands for a node that did not answer in time; see `cluster::node`.
pub(super) const LATE: &str = "WEIRLATE";

/// Why a command has no value.
#[derive(Clone)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: &'static str,
    source: Option<RedisError>,
}

/// The kind of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The server does not have the script: it did not run, send its text.
    NoScript,
    /// The server cannot run it now and did not (a slot that moves, a data set that loads).
    NothingRan,
    /// The server is a replica, and did not run it: what was the master is no more.
    ReadOnly,
    /// The server will not run it, and did not, until somebody changes something there.
    Refused,
    /// The keys lie in different slots of a cluster: it did not run.
    CrossSlot,
    /// There is no connection, so nothing was sent.
    Unreachable,
    /// The caller is outside a runtime, so nothing was sent.
    NoRuntime,
    /// The connection was lost under the command, which may have run.
    ConnectionLost,
    /// No answer came in time; the command may have run.
    Timeout,
    /// The answer makes no sense.
    Protocol,
}

impl FailureKind {
    /// As a label of metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoScript => "no_script",
            Self::NothingRan => "nothing_ran",
            Self::ReadOnly => "read_only",
            Self::Refused => "refused",
            Self::CrossSlot => "cross_slot",
            Self::Unreachable => "unreachable",
            Self::NoRuntime => "no_runtime",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: &'static str) -> Self {
        Self { kind, message, source: None }
    }

    /// The answer to a question that was not answered in the time of whoever asked.
    #[cold]
    pub(crate) fn timeout() -> Self {
        Self::new(FailureKind::Timeout, LATE_MESSAGE)
    }

    /// An answer of Redis that is not what the script or command returns.
    #[cold]
    pub(crate) fn protocol(message: &'static str) -> Self {
        Self::new(FailureKind::Protocol, message)
    }

    /// An answer of a script that is not what our scripts answer.
    #[cold]
    pub(crate) fn unreadable() -> Self {
        Self::protocol("Redis answered something else than the script does; see whether a proxy changes answers")
    }

    /// A key of ours holds a value of another type.
    #[cold]
    pub(crate) fn foreign() -> Self {
        Self::protocol(WRONGTYPE_MESSAGE)
    }

    /// The answer while Redis is not asked.
    #[cold]
    pub(crate) fn unavailable() -> Self {
        Self::new(FailureKind::Unreachable, "Redis failed lately, and is not asked until a probe is answered")
    }

    /// The answer where more wait for Redis than it can serve in time.
    #[cold]
    pub(crate) fn crowded() -> Self {
        Self::new(FailureKind::Unreachable, "too many requests wait for Redis; see whether it is overloaded")
    }

    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the command may have run, so that sending it again may charge twice.
    #[cfg(test)]
    pub(crate) fn may_have_run(&self) -> bool {
        matches!(self.kind, FailureKind::ConnectionLost | FailureKind::Timeout | FailureKind::Protocol)
    }

    pub(super) fn calls_for_reconnect(&self) -> bool {
        match self.kind {
            FailureKind::ConnectionLost | FailureKind::ReadOnly => true,
            // Out of step with the server, or an answer that the script did not expect: only the former is the
            // connection's fault.
            FailureKind::Protocol => self.source.as_ref().is_some_and(|error| error.kind() == ErrorKind::Parse),
            _ => false,
        }
    }

    /// Sorts a result of redis: server errors come as values, or as errors.
    pub(super) fn check(result: RedisResult<Value>) -> Result<Value, Self> {
        match result {
            Ok(Value::ServerError(error)) => Err(Self::of_command(error.into())),
            Ok(value) => Ok(value),
            Err(error) => Err(Self::of_command(error)),
        }
    }

    /// Sorts an error that came while connecting, so that nothing was sent yet.
    #[cold]
    pub(super) fn of_connect(error: RedisError) -> Self {
        let failure = Self::of_command(error);
        match failure.kind {
            FailureKind::Refused | FailureKind::NothingRan | FailureKind::ReadOnly => failure,
            _ => Self { kind: FailureKind::Unreachable, message: UNREACHABLE_MESSAGE, ..failure },
        }
    }

    #[cold]
    pub(super) fn of_command(error: RedisError) -> Self {
        let (kind, message) = sort(&error);
        Self { kind, message, source: tells_no_address(&error).then_some(error) }
    }
}

const LATE_MESSAGE: &str = "Redis did not answer in time; see whether it is overloaded or hung (SLOWLOG GET, INFO)";
const LOST_MESSAGE: &str = "the connection to Redis was lost before the answer came; see whether the server was \
     restarted, or a proxy cut the connection";
const UNREACHABLE_MESSAGE: &str = "no connection to Redis could be made; see whether the server runs and its host, \
     port and TLS setting are right";
const NOPERM_MESSAGE: &str = "the Redis user may not do this; grant it +eval +evalsha +time +get +set +del, the keys \
     under the prefix, for counting instances +zadd +zremrangebyscore +zcard +pexpire, and for clear() +scan +unlink \
     (ACL SETUSER)";
const BUSY_MESSAGE: &str = "Redis is busy with a script that does not end; stop it (SCRIPT KILL, or FUNCTION KILL)";
const OOM_MESSAGE: &str = "Redis is out of memory; raise maxmemory, or set a maxmemory-policy that evicts";
const READONLY_MESSAGE: &str =
    "this Redis is a read-only replica; address the master, or link through sentinel or cluster";
const MISCONF_MESSAGE: &str = "Redis refuses writes since it cannot save to disk; see the server's log, or set \
     stop-writes-on-bgsave-error no";
const NOAUTH_MESSAGE: &str = "Redis wants a password; write it in the URL, as in redis://user:password@host:6379";
const WRONGPASS_MESSAGE: &str = "Redis does not take this user and password; see the URL, and ACL LIST on the server";
const CROSSSLOT_MESSAGE: &str =
    "Redis is a cluster, and the command's keys lie in different slots; link to it as a cluster";
const WRONGTYPE_MESSAGE: &str = "the key of a limit holds a value of another type that another program wrote; delete \
     it, and give the limits a key prefix of their own";
const UNSERVED_MESSAGE: &str = "Redis does not serve this slot at the moment; see CLUSTER INFO if it stays so";

/// The code that a server's error begins with, and what it means. Redis up to 6.2 wraps the errors of a script
/// (`ERR Error running script (..): .. -READONLY ..`), so that the code is also looked for behind a minus sign.
const CODES: [(&str, FailureKind, &str); 20] = [
    ("NOSCRIPT", FailureKind::NoScript, "Redis does not have the script, though it was sent"),
    (
        "MOVED",
        FailureKind::NothingRan,
        "Redis is a cluster, or the slot moved; if it stays so, link to it as a cluster",
    ),
    ("ASK", FailureKind::NothingRan, "the slot is on its way to another node"),
    ("TRYAGAIN", FailureKind::NothingRan, "the slot is on its way to another node"),
    ("CLUSTERDOWN", FailureKind::NothingRan, UNSERVED_MESSAGE),
    ("MASTERDOWN", FailureKind::NothingRan, "this Redis is a replica without its master; wait for the failover"),
    ("LOADING", FailureKind::NothingRan, "Redis is loading its data set; it will serve when that is done"),
    ("READONLY", FailureKind::ReadOnly, READONLY_MESSAGE),
    ("OOM", FailureKind::Refused, OOM_MESSAGE),
    ("BUSY", FailureKind::Refused, BUSY_MESSAGE),
    ("NOAUTH", FailureKind::Refused, NOAUTH_MESSAGE),
    ("WRONGPASS", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("NOPERM", FailureKind::Refused, NOPERM_MESSAGE),
    ("MISCONF", FailureKind::Refused, MISCONF_MESSAGE),
    ("NOREPLICAS", FailureKind::Refused, "Redis wants more replicas in step; see min-replicas-to-write"),
    ("CROSSSLOT", FailureKind::CrossSlot, CROSSSLOT_MESSAGE),
    ("DENIED", FailureKind::Refused, "Redis is in protected mode; give it a password, or bind it to a private network"),
    ("WRONGTYPE", FailureKind::Protocol, WRONGTYPE_MESSAGE),
    (LOST, FailureKind::ConnectionLost, LOST_MESSAGE),
    (LATE, FailureKind::Timeout, LATE_MESSAGE),
];

/// What Redis says under the code `ERR`, and what it means.
const PHRASES: [(&str, FailureKind, &str); 6] = [
    (
        "unknown command",
        FailureKind::Refused,
        "this Redis does not know a command of ours; Redis 6.2 and newer, or Valkey, do",
    ),
    ("max number of clients", FailureKind::Refused, "Redis has too many clients; raise maxclients, or close some"),
    ("without any password", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("no password is set", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("DB index", FailureKind::Refused, "this Redis has no database of that number; write another in the URL, or none"),
    ("SELECT is not allowed", FailureKind::Refused, "a Redis cluster has only database 0; write no other in the URL"),
];

fn sort(error: &RedisError) -> (FailureKind, &'static str) {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => (FailureKind::Timeout, LATE_MESSAGE),
        ErrorKind::Io => (FailureKind::ConnectionLost, LOST_MESSAGE),
        ErrorKind::AuthenticationFailed => (FailureKind::Refused, WRONGPASS_MESSAGE),
        ErrorKind::ClusterConnectionNotFound => (FailureKind::NothingRan, "no node of the cluster could be reached"),
        ErrorKind::MasterNameNotFoundBySentinel => {
            (FailureKind::Unreachable, "the sentinels know no master of this name that is up; see SENTINEL MASTERS")
        }
        ErrorKind::RESP3NotSupported => {
            (FailureKind::Refused, "this Redis does not speak RESP3; leave ?protocol=resp3 out of the URL")
        }
        ErrorKind::Server(ServerErrorKind::ResponseError) => sort_text(error.detail().unwrap_or_default()),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            by_code(error.code().unwrap_or_default()).unwrap_or((FailureKind::Protocol, UNKNOWN_MESSAGE))
        }
        _ => (FailureKind::Protocol, UNKNOWN_MESSAGE),
    }
}

const UNKNOWN_MESSAGE: &str = "Redis answered with an error that is not known here; see the error's source";

fn by_code(code: &str) -> Option<(FailureKind, &'static str)> {
    CODES.iter().find(|known| known.0 == code).map(|known| (known.1, known.2))
}

fn sort_text(text: &str) -> (FailureKind, &'static str) {
    let mut wrapped = text.match_indices('-').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        by_code(rest.split(|c: char| !c.is_ascii_uppercase()).next().unwrap_or_default())
    });
    let phrase = || PHRASES.iter().find(|known| text.contains(known.0)).map(|known| (known.1, known.2));
    wrapped.next().or_else(phrase).unwrap_or((FailureKind::Protocol, UNKNOWN_MESSAGE))
}

/// Redirects and lookups name nodes, which a log must not.
fn tells_no_address(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved};

    !matches!(
        error.kind(),
        ErrorKind::Server(Moved | Ask)
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::InvalidClientConfig
    )
}

impl From<NoRuntime> for Failure {
    fn from(_: NoRuntime) -> Self {
        Self::new(FailureKind::NoRuntime, NoRuntime::MESSAGE)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Timeout => StoreErrorKind::Timeout,
            FailureKind::Protocol => StoreErrorKind::Protocol,
            _ => StoreErrorKind::Unavailable,
        };
        let error = Self::new(kind, failure.message);
        match failure.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("kind", &self.kind).field("source", &self.source).finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

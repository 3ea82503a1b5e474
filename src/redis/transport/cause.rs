//! The causes of failures: how to recognize each one, and the message with its fix.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use super::failure_kind::{FailureKind, LATE, LOST};
use super::tls;

/// The permissions that docs/redis-operations.md grants to the user of a limiter, as one literal.
macro_rules! acl {
    () => {
        "grant the permissions that the guide lists: ACL SETUSER weir reset on >secret ~weir:* resetchannels +evalsha \
         +eval +get +getrange +set +setrange +time +del +zadd +zremrangebyscore +zcard +pexpire +ping +scan +unlink. On a cluster, \
         also grant +cluster|slots +asking; under sentinels +role; for a database other than 0 +select"
    };
}

pub(super) const WRONGTYPE_MESSAGE: &str = "the key of a limit holds a value of another type that another program \
     wrote; delete it, and give the limits their own key prefix";
pub(super) const LATE_MESSAGE: &str =
    "Redis did not answer in time; check whether it is overloaded or hung (SLOWLOG GET, INFO)";
pub(super) const LOST_MESSAGE: &str = "the connection to Redis was lost before the reply arrived; check whether the \
     server restarted, or a proxy closed the connection";
pub(super) const NOPERM_MESSAGE: &str = concat!("the Redis user lacks a permission; ", acl!());
const BUSY_MESSAGE: &str = "Redis is busy with a script that does not end; stop it with SCRIPT KILL or FUNCTION KILL";
const OOM_MESSAGE: &str = "Redis is out of memory and refuses writes; raise maxmemory, give the limits their own \
     Redis, or set maxmemory-policy volatile-ttl";
const READONLY_MESSAGE: &str = "this Redis is a read-only replica; connect to the master, or use \
     `RedisOptions::sentinel` or `RedisOptions::cluster`";
const MISCONF_MESSAGE: &str = "Redis refuses writes because it cannot save to disk; check the server's log, or set \
     stop-writes-on-bgsave-error no";
pub(super) const NOAUTH_MESSAGE: &str =
    "Redis requires a password; write it in the URL, as in redis://user:password@host:6379";
pub(super) const WRONGPASS_MESSAGE: &str =
    "Redis does not accept this user and password; check the URL, and ACL LIST on the server";
const CROSSSLOT_MESSAGE: &str = "Redis is a cluster, and the keys of the command are in different slots; use \
     `RedisOptions::cluster(urls)` (feature redis-cluster)";
pub(super) const MOVED_MESSAGE: &str = "Redis is a cluster, and another node serves the slot; use \
     `RedisOptions::cluster(urls)` (feature redis-cluster)";
/// The message on a transport that follows redirects.
#[cfg(feature = "redis-cluster")]
pub(super) const MOVING_MESSAGE: &str = "a slot of the Redis cluster is moving to another node; if this does not end, \
     check CLUSTER NODES and CLUSTER SETSLOT";
const UNSERVED_MESSAGE: &str = "the Redis cluster is down, or does not serve all slots; check CLUSTER INFO. Set \
     cluster-require-full-coverage no if one dead node must not stop the others";

const PROTECTED_MESSAGE: &str = "Redis is in protected mode and accepts no connection from another host; set a \
     password (requirepass), or set protected-mode no on a private network";
const REPLICATION_MESSAGE: &str = "this Redis replicates scripts by their text; set lua-replicate-commands yes";
/// The message until it is known whether the server is a sentinel.
pub(super) const UNKNOWN_COMMAND_MESSAGE: &str = "this server does not know a command that tower-weir uses";
pub(super) const FOREIGN_COMMAND_MESSAGE: &str = "this server does not know a command that tower-weir uses; use Redis \
     6.2 or newer, or Valkey. The cause can also be a renamed EVALSHA, EVAL, GET, SET, DEL or TIME, or a proxy that \
     forbids one of them";
pub(super) const RUNTIME_GONE_MESSAGE: &str = "the runtime of the connection to Redis was shut down during a call; \
     use one runtime for all users of a limiter, or a limiter for each";
pub(super) const SENTINEL_URL_MESSAGE: &str = "the URL is the address of a sentinel; use \
     `RedisOptions::sentinel(urls, master)` (feature redis-sentinel)";

pub(super) const UNKNOWN_MASTER_MESSAGE: &str = "the sentinels know no master of this name; check SENTINEL MASTERS, \
     and sentinel monitor in their configuration";

/// The codes with which server errors begin, and their meaning. Redis up to 6.2 wraps the errors of a script (`ERR
/// Error running script (..): .. -READONLY ..`). Therefore the code is also searched for after a minus sign.
const CODES: [(&str, FailureKind, &str); 20] = [
    ("NOSCRIPT", FailureKind::NoScript, "Redis does not have the script, although tower-weir sent it"),
    ("MOVED", FailureKind::Moved, MOVED_MESSAGE),
    ("ASK", FailureKind::Moved, MOVED_MESSAGE),
    ("TRYAGAIN", FailureKind::Moved, MOVED_MESSAGE),
    ("CLUSTERDOWN", FailureKind::NothingRan, UNSERVED_MESSAGE),
    ("MASTERDOWN", FailureKind::NothingRan, "this Redis is a replica without its master; wait for the failover"),
    ("LOADING", FailureKind::NothingRan, "Redis is loading its data set; it serves requests after that"),
    ("READONLY", FailureKind::ReadOnly, READONLY_MESSAGE),
    ("OOM", FailureKind::Refused, OOM_MESSAGE),
    ("BUSY", FailureKind::Refused, BUSY_MESSAGE),
    ("NOAUTH", FailureKind::Refused, NOAUTH_MESSAGE),
    ("WRONGPASS", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("NOPERM", FailureKind::Refused, NOPERM_MESSAGE),
    ("MISCONF", FailureKind::Refused, MISCONF_MESSAGE),
    (
        "NOREPLICAS",
        FailureKind::Refused,
        "Redis refuses writes because too few replicas are in sync; check min-replicas-to-write, and whether the \
         replicas run",
    ),
    ("CROSSSLOT", FailureKind::CrossSlot, CROSSSLOT_MESSAGE),
    ("DENIED", FailureKind::Refused, PROTECTED_MESSAGE),
    ("WRONGTYPE", FailureKind::Protocol, WRONGTYPE_MESSAGE),
    (LOST, FailureKind::ConnectionLost, LOST_MESSAGE),
    (LATE, FailureKind::Timeout, LATE_MESSAGE),
];

/// Texts of errors with the code `ERR`, and their meaning.
const PHRASES: [(&str, FailureKind, &str); 11] = [
    ("unknown command", FailureKind::Refused, UNKNOWN_COMMAND_MESSAGE),
    // The error of an ACL that forbids a command inside a script, up to 7.0 and since 7.2.
    ("can't run this command", FailureKind::Refused, NOPERM_MESSAGE),
    ("ACL failure in script", FailureKind::Refused, NOPERM_MESSAGE),
    ("has no permissions", FailureKind::Refused, NOPERM_MESSAGE),
    ("after non deterministic commands", FailureKind::Refused, REPLICATION_MESSAGE),
    ("protected mode", FailureKind::Refused, PROTECTED_MESSAGE),
    ("max number of clients", FailureKind::Refused, "Redis has too many clients; raise maxclients, or close some"),
    ("without any password", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("no password is set", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("DB index", FailureKind::Refused, "this Redis has no database with that number; change or omit it in the URL"),
    ("SELECT is not allowed", FailureKind::Refused, "a Redis cluster has only database 0; omit the number in the URL"),
];

/// Classifies an error by the fate of the command.
pub(super) fn of(error: &RedisError) -> (FailureKind, &'static str) {
    match sort(error) {
        // A server repeats the arguments of an unknown command. Ours are not text, so the client cannot parse the
        // error.
        (_, UNKNOWN_MESSAGE) if error.to_string().contains("invalid utf-8") => {
            (FailureKind::Refused, UNKNOWN_COMMAND_MESSAGE)
        }
        known => known,
    }
}

fn sort(error: &RedisError) -> (FailureKind, &'static str) {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => (FailureKind::Timeout, LATE_MESSAGE),
        ErrorKind::Io => (FailureKind::ConnectionLost, LOST_MESSAGE),
        ErrorKind::AuthenticationFailed => (FailureKind::Refused, WRONGPASS_MESSAGE),
        ErrorKind::ClusterConnectionNotFound => {
            (FailureKind::NothingRan, "no node of the Redis cluster can be reached; check the URLs, and CLUSTER NODES")
        }
        ErrorKind::MasterNameNotFoundBySentinel => (FailureKind::Unreachable, UNKNOWN_MASTER_MESSAGE),
        ErrorKind::RESP3NotSupported => {
            (FailureKind::Refused, "this Redis does not support RESP3; remove ?protocol=resp3 from the URL")
        }
        ErrorKind::Server(ServerErrorKind::ResponseError) => sort_text(error.detail().unwrap_or_default()),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            by_code(error.code().unwrap_or_default()).unwrap_or((FailureKind::Protocol, UNKNOWN_MESSAGE))
        }
        _ => (FailureKind::Protocol, UNKNOWN_MESSAGE),
    }
}

pub(super) const UNKNOWN_MESSAGE: &str = "Redis, or a proxy in front of it, refused a call of tower-weir with an \
     unknown error; check the text of that error";

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

/// Why no connection could be made, if no server gave a reason.
pub(super) const CLOSED_MESSAGE: &str = "the connection to Redis was closed during its setup; check whether a proxy \
     has lost its server, and whether the port requires TLS (rediss://)";
pub(super) const UNREACHABLE_MESSAGE: &str = "no connection to Redis could be made; check whether the server runs, \
     and its host, port and TLS setting";
pub(super) const SLOW_CONNECT_MESSAGE: &str = "Redis did not accept the connection in time; check its host and port, \
     and whether a firewall blocks them";
pub(super) const REFUSED_MESSAGE: &str = "the connection to Redis was refused, because no server listens there; check \
     whether the server runs, and the URL's host and port";
pub(super) const NO_ROUTE_MESSAGE: &str = "there is no route to Redis; check the network, and the URL's host";
pub(super) const DNS_MESSAGE: &str =
    "the host name of Redis cannot be resolved; check the URL's host and the name server";
const NO_SOCKET_MESSAGE: &str =
    "the Unix socket of Redis does not exist; check the URL's path, and unixsocket in redis.conf";
const NO_ENTRY_MESSAGE: &str = "this process has no permission to open the Unix socket of Redis; check the \
     permissions of the file, and unixsocketperm in redis.conf";
pub(super) const NO_REDIS_MESSAGE: &str = "the server at this host and port is not Redis; check the URL";

/// Returns the message for an error during connection setup.
pub(super) fn of_connect(error: &RedisError) -> &'static str {
    if error.kind() == ErrorKind::Parse {
        return NO_REDIS_MESSAGE;
    }
    let text = error.to_string();
    if text.contains("failed to lookup address") || text.contains("No address found") {
        return DNS_MESSAGE;
    }
    let Some(io) = io_error(error) else { return tls::cause_of_text(&text).unwrap_or(UNREACHABLE_MESSAGE) };
    if let Some(cause) = tls::cause(io) {
        return cause;
    }
    match io.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED_MESSAGE,
        io::ErrorKind::NotFound => NO_SOCKET_MESSAGE,
        io::ErrorKind::PermissionDenied => NO_ENTRY_MESSAGE,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => NO_ROUTE_MESSAGE,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => SLOW_CONNECT_MESSAGE,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CLOSED_MESSAGE,
        _ => UNREACHABLE_MESSAGE,
    }
}

/// Returns the I/O error behind an error of the redis crate.
pub(super) fn io_error(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

/// Whether a message does not show the cause.
pub(super) fn is_vague(message: &str) -> bool {
    [CLOSED_MESSAGE, UNREACHABLE_MESSAGE, SLOW_CONNECT_MESSAGE, UNKNOWN_COMMAND_MESSAGE].contains(&message)
}

/// Redirects and lookups contain addresses of nodes, which a log must not contain.
pub(super) fn tells_no_address(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved};

    !matches!(
        error.kind(),
        ErrorKind::Server(Moved | Ask)
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::InvalidClientConfig
    )
}

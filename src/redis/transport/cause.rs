//! The causes of failures: how each is recognised, and what its message says to do.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use super::failure_kind::{FailureKind, LATE, LOST};
use super::tls;

/// The permissions that docs/redis-operations.md grants to the user of a limiter, as one literal.
macro_rules! acl {
    () => {
        "grant it what the guide lists: ACL SETUSER weir reset on >secret ~weir:* resetchannels +evalsha +eval +get +set \
         +time +del +zadd +zremrangebyscore +zcard +pexpire +ping +scan +unlink; on a cluster also +cluster|slots \
         +asking, under sentinels +role, for a database other than 0 +select"
    };
}

pub(super) const WRONGTYPE_MESSAGE: &str = "the key of a limit holds a value of another type that another program wrote; \
     delete it, and give the limits a key prefix of their own";
pub(super) const LATE_MESSAGE: &str =
    "Redis did not answer in time; see whether it is overloaded or hung (SLOWLOG GET, INFO)";
pub(super) const LOST_MESSAGE: &str = "the connection to Redis was lost before the answer came; see whether the server was \
     restarted, or a proxy cut the connection";
pub(super) const NOPERM_MESSAGE: &str = concat!("the Redis user lacks a permission; ", acl!());
const BUSY_MESSAGE: &str = "Redis is busy with a script that does not end; stop it (SCRIPT KILL, or FUNCTION KILL)";
const OOM_MESSAGE: &str = "Redis is out of memory and refuses writes; raise maxmemory, give the limits a Redis of their \
     own, or set maxmemory-policy volatile-ttl, which drops what would expire first";
const READONLY_MESSAGE: &str = "this Redis is a read-only replica; address the master, or write `RedisOptions::sentinel` or `RedisOptions::cluster`";
const MISCONF_MESSAGE: &str = "Redis refuses writes since it cannot save to disk; see the server's log, or set \
     stop-writes-on-bgsave-error no";
pub(super) const NOAUTH_MESSAGE: &str =
    "Redis wants a password; write it in the URL, as in redis://user:password@host:6379";
pub(super) const WRONGPASS_MESSAGE: &str =
    "Redis does not take this user and password; see the URL, and ACL LIST on the server";
const CROSSSLOT_MESSAGE: &str = "Redis is a cluster, and the command's keys lie in different slots; write \
     `RedisOptions::cluster(urls)` (feature redis-cluster)";
pub(super) const MOVED_MESSAGE: &str = "Redis is a cluster, and another node has the slot; write \
     `RedisOptions::cluster(urls)` (feature redis-cluster)";
/// On a link that follows redirects.
#[cfg(feature = "redis-cluster")]
pub(super) const MOVING_MESSAGE: &str = "a slot of the Redis cluster moves from one node to another; see CLUSTER NODES and \
     CLUSTER SETSLOT if it stays so";
const UNSERVED_MESSAGE: &str = "the Redis cluster is down, or serves not all slots; see CLUSTER INFO, and \
     cluster-require-full-coverage if one dead node must not stop the others";

const PROTECTED_MESSAGE: &str = "Redis is in protected mode and takes no connection from another host; give it a password \
     (requirepass, or an ACL user), or set protected-mode no on a private network";
const REPLICATION_MESSAGE: &str = "this Redis replicates scripts by their text; set lua-replicate-commands yes";
/// Until it is known whether it is a sentinel.
pub(super) const UNKNOWN_COMMAND_MESSAGE: &str = "this server does not know a command of tower-weir";
pub(super) const FOREIGN_COMMAND_MESSAGE: &str = "this server does not know a command of tower-weir; it takes Redis 6.2 or \
     newer, or Valkey, without a renamed EVALSHA, EVAL, GET, SET, DEL or TIME, and no proxy that forbids them";
pub(super) const RUNTIME_GONE_MESSAGE: &str = "the runtime that carried the connection to Redis was shut down under a \
     call; share one runtime between the users of a limiter, or give each runtime its own limiter";
pub(super) const SENTINEL_URL_MESSAGE: &str = "the URL is that of a sentinel; write `RedisOptions::sentinel(urls, master)` \
     (feature redis-sentinel)";

pub(super) const UNKNOWN_MASTER_MESSAGE: &str = "the sentinels know no master of this name; see SENTINEL MASTERS, and \
     sentinel monitor in their configuration";

/// The code that a server's error begins with, and what it means. Redis up to 6.2 wraps the errors of a script
/// (`ERR Error running script (..): .. -READONLY ..`), so that the code is also looked for behind a minus sign.
const CODES: [(&str, FailureKind, &str); 20] = [
    ("NOSCRIPT", FailureKind::NoScript, "Redis does not have the script, though it was sent"),
    ("MOVED", FailureKind::Moved, MOVED_MESSAGE),
    ("ASK", FailureKind::Moved, MOVED_MESSAGE),
    ("TRYAGAIN", FailureKind::Moved, MOVED_MESSAGE),
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
    (
        "NOREPLICAS",
        FailureKind::Refused,
        "Redis refuses writes since too few replicas are in step; see min-replicas-to-write, and whether they run",
    ),
    ("CROSSSLOT", FailureKind::CrossSlot, CROSSSLOT_MESSAGE),
    ("DENIED", FailureKind::Refused, PROTECTED_MESSAGE),
    ("WRONGTYPE", FailureKind::Protocol, WRONGTYPE_MESSAGE),
    (LOST, FailureKind::ConnectionLost, LOST_MESSAGE),
    (LATE, FailureKind::Timeout, LATE_MESSAGE),
];

/// What Redis says under the code `ERR`, and what it means.
const PHRASES: [(&str, FailureKind, &str); 11] = [
    ("unknown command", FailureKind::Refused, UNKNOWN_COMMAND_MESSAGE),
    // An ACL that forbids a command inside a script, up to 7.0 and from 7.2 on.
    ("can't run this command", FailureKind::Refused, NOPERM_MESSAGE),
    ("ACL failure in script", FailureKind::Refused, NOPERM_MESSAGE),
    ("has no permissions", FailureKind::Refused, NOPERM_MESSAGE),
    ("after non deterministic commands", FailureKind::Refused, REPLICATION_MESSAGE),
    ("protected mode", FailureKind::Refused, PROTECTED_MESSAGE),
    ("max number of clients", FailureKind::Refused, "Redis has too many clients; raise maxclients, or close some"),
    ("without any password", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("no password is set", FailureKind::Refused, WRONGPASS_MESSAGE),
    ("DB index", FailureKind::Refused, "this Redis has no database of that number; write another in the URL, or none"),
    ("SELECT is not allowed", FailureKind::Refused, "a Redis cluster has only database 0; write no other in the URL"),
];

/// Sorts an error by what it says of the command.
pub(super) fn of(error: &RedisError) -> (FailureKind, &'static str) {
    match sort(error) {
        // A server repeats the arguments of a command that it does not know, and ours are no text, which the client
        // cannot read.
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
            (FailureKind::NothingRan, "no node of the Redis cluster can be reached; see the URLs, and CLUSTER NODES")
        }
        ErrorKind::MasterNameNotFoundBySentinel => (FailureKind::Unreachable, UNKNOWN_MASTER_MESSAGE),
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

pub(super) const UNKNOWN_MESSAGE: &str = "Redis, or a proxy before it, refused a call of tower-weir with an error that is \
     not known; see its own words";

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

/// Why no connection could be made, where no server has said it.
pub(super) const CLOSED_MESSAGE: &str = "the connection to Redis was closed while it was made; see whether a proxy stands \
     before a server that is down, and whether the port wants TLS (rediss://)";
pub(super) const UNREACHABLE_MESSAGE: &str = "no connection to Redis could be made; see whether the server runs, and its \
     host, port and TLS setting";
pub(super) const SLOW_CONNECT_MESSAGE: &str = "Redis did not take the connection in time; see whether its host and port \
     are right, and no firewall is between";
pub(super) const REFUSED_MESSAGE: &str = "no Redis listens: the connection was refused; see whether the server runs, and \
     the URL's host and port";
pub(super) const NO_ROUTE_MESSAGE: &str = "there is no route to Redis; see the network, and the URL's host";
pub(super) const DNS_MESSAGE: &str =
    "the host name of Redis cannot be resolved; see the URL's host and the name server";
const NO_SOCKET_MESSAGE: &str =
    "the Unix socket of Redis is not there; see the URL's path, and unixsocket in redis.conf";
const NO_ENTRY_MESSAGE: &str = "this process may not open the Unix socket of Redis; see the file's rights, and \
     unixsocketperm in redis.conf";
pub(super) const NO_REDIS_MESSAGE: &str = "what answers at this host and port is no Redis; see the URL";

/// What is told of an error while connecting.
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

/// The I/O error behind one of redis.
pub(super) fn io_error(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

/// Whether a message leaves open what is wrong.
pub(super) fn is_vague(message: &str) -> bool {
    [CLOSED_MESSAGE, UNREACHABLE_MESSAGE, SLOW_CONNECT_MESSAGE, UNKNOWN_COMMAND_MESSAGE].contains(&message)
}

/// Redirects and lookups name nodes, which a log must not.
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

//! The notices, their names and their words.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::log::Level;

/// The notices that were told or silenced, a bit for each.
pub(super) static NOTIFIED: AtomicU32 = AtomicU32::new(0);

/// What the log reports: a mistake that shows only in traffic, once in a process, or the state of Redis.
///
/// Each has a code, a cause and a fix, and none shows a key, an address or a token. They go to `tracing`, target
/// `tower_weir`, with that feature, and to standard error without it.
///
/// Some are guesses: what looks like a mistake may be meant. Where it is, [`silence`](Self::silence) it.
///
/// # Examples
///
/// ```
/// use tower_weir::telemetry::Notice;
///
/// // At the start of the program: this service has one client, and that is in the same network.
/// Notice::SharedPrivatePeer.silence();
/// assert_eq!(Notice::SharedPrivatePeer.code(), "shared-private-peer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// `missing-peer-address`: a request has no peer address to be limited by.
    MissingPeerAddress,
    /// `unusable-proxy-header`: a trusted proxy sends no usable address of its client.
    UnusableProxyHeader,
    /// `missing-key`: the service did not provide what the key is made of.
    MissingKey,
    /// `key-function-finds-none`: the function of
    /// [`key_fn`](crate::RateLimitLayerBuilder::key_fn) found no key for the first 100 requests.
    KeyFunctionFindsNone,
    /// `untrusted-forwarding-header`: `X-Forwarded-For` or `Forwarded` comes in, and
    /// [`ClientIp::peer()`](crate::ClientIp::peer) reads neither.
    ///
    /// Told at once where a private address sends it. Other addresses may invent it; there it is told when most of
    /// the process's first 1000 requests have it, and at least twenty.
    UntrustedForwardingHeader,
    /// `shared-private-peer`: one private address, or one trusted proxy without a forwarding header, sends most
    /// requests, and [`ClientIp`](crate::ClientIp) gives it one budget.
    ///
    /// Judged by the process's first 1000 requests. Private are the addresses of RFC 1918, RFC 4193 and RFC 6598,
    /// of one link, and of this machine.
    SharedPrivatePeer,
    /// `header-value-per-request`: nearly every request brings a new value of the
    /// [`Header`](crate::key::Header) that is the key.
    ///
    /// Judged by the key's first 4096 requests, where nine in ten have a value of their own. Not for
    /// [`hashed`](crate::key::Header::hashed) values.
    HeaderValuePerRequest,
    /// `limit-opened-twice`: two limits in use share a limiter and a name, and so their budgets.
    ///
    /// Told where nobody named them, and where their quotas or strategies differ. One budget behind two layers is
    /// told nothing: same name, same quotas.
    SharedLimitName,
    /// `layer-per-request`: layers with a store of their own are built and dropped all the time.
    ///
    /// Told when the process has dropped the 10 000th.
    LayerPerRequest,
    /// `unread-body`: a refused HTTP/1 request has a body of a type that the layer cannot read, so its client may
    /// lose the answer.
    UnreadBody,
    /// `coarse-buckets`: the buckets are longer than a tenth of a window, so much of its limit goes unused.
    ///
    /// A unit is held for its window and for the rest of its bucket. Judged when a limiter or a layer is built.
    CoarseBuckets,
    /// `keys-full`: a limit has no room for another key, so unknown keys share budgets.
    KeysFull,
    /// `redis-lost`: Redis cannot be asked, and requests follow [`OnStoreError`](crate::OnStoreError).
    ///
    /// Reported for each outage, at most once in ten seconds; the line names the cause and its fix, and counts the
    /// short outages that had no line.
    RedisLost,
    /// `redis-back`: Redis decides again, after a `redis-lost`. The only line of level INFO.
    RedisBack,
    /// `redis-odd`: Redis answers some requests in a way that is no decision; those follow
    /// [`OnStoreError`](crate::OnStoreError). Once for each store.
    RedisOdd,
    /// `redis-forgot`: Redis has lost counts, and each hybrid instance brings back its own. Once for each store.
    RedisForgot,
    /// `redis-instances`: the instances cannot be counted in Redis. Once for each store.
    RedisInstances,
    /// `redis-name-shared`: more was charged under a name in Redis than its limit admits.
    ///
    /// Another process uses the name and prefix with other quotas, or for another service.
    RedisNameShared,
}

impl Notice {
    /// Its name in the log, which does not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingPeerAddress => "missing-peer-address",
            Self::UnusableProxyHeader => "unusable-proxy-header",
            Self::MissingKey => "missing-key",
            Self::KeyFunctionFindsNone => "key-function-finds-none",
            Self::UntrustedForwardingHeader => "untrusted-forwarding-header",
            Self::SharedPrivatePeer => "shared-private-peer",
            Self::HeaderValuePerRequest => "header-value-per-request",
            Self::SharedLimitName => "limit-opened-twice",
            Self::LayerPerRequest => "layer-per-request",
            Self::UnreadBody => "unread-body",
            Self::CoarseBuckets => "coarse-buckets",
            Self::KeysFull => "keys-full",
            Self::RedisLost => "redis-lost",
            Self::RedisBack => "redis-back",
            Self::RedisOdd => "redis-odd",
            Self::RedisForgot => "redis-forgot",
            Self::RedisInstances => "redis-instances",
            Self::RedisNameShared => "redis-name-shared",
        }
    }

    /// Keeps it from being told in this process from now on.
    pub fn silence(self) {
        NOTIFIED.fetch_or(self.bit(), Ordering::Relaxed);
    }

    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    pub(super) const fn level(self) -> Level {
        match self {
            Self::MissingPeerAddress | Self::UnusableProxyHeader | Self::MissingKey => Level::Error,
            Self::RedisLost | Self::RedisOdd | Self::RedisForgot | Self::RedisInstances => Level::Error,
            Self::RedisBack => Level::Info,
            _ => Level::Warning,
        }
    }
}

impl fmt::Display for Notice {
    /// The cause and the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingPeerAddress => {
                "a request has no peer address, so it cannot be limited by one. On a TCP listener, serve the axum \
                 router with `into_make_service_with_connect_info::<SocketAddr>()`, enable tower-weir's feature \
                 `axum` or `tonic` for the server in use, or insert a `SocketAddr` into the request's extensions. On \
                 a Unix socket there is none: behind a proxy write `ClientIp::behind([\"unix:\"])`, otherwise use \
                 another key, such as `Global`"
            }
            Self::UnusableProxyHeader => {
                "a request from a trusted proxy names no usable client address, so it cannot be limited by one: \
                 let the proxy write the header that `ClientIp` reads (`X-Forwarded-For`, or the one declared with \
                 `forwarded` or `header`), and check the networks of `behind` or the number of `hops`"
            }
            Self::MissingKey => {
                "a request has no key to be limited by: put the layer inside the one that provides it, mend what \
                 looks it up, or say with `on_missing_key` what such requests get"
            }
            Self::KeyFunctionFindsNone => {
                "the function of `key_fn` found no key for the first 100 requests: put the layer inside the one that \
                 provides the value, and let the function return `MissingKey::server_fault(..)` if the service should \
                 have provided it; if no client has sent the value yet, nothing is wrong"
            }
            Self::UntrustedForwardingHeader => {
                "requests carry X-Forwarded-For or Forwarded, and `ClientIp::peer()` reads neither: if a proxy writes \
                 it, all clients share the proxy's budget, so write `ClientIp::behind([..])` with the proxy's \
                 networks, or `ClientIp::hops(n)`; if clients reach the service directly, nothing is wrong"
            }
            Self::SharedPrivatePeer => {
                "one private address, or one trusted proxy without a forwarding header, sends most requests, and \
                 `ClientIp` gives it one budget: if it forwards clients' requests, let it send its client's address, \
                 and write `ClientIp::behind([..])` or `ClientIp::hops(n)`; if it is one client or sends health \
                 checks, nothing is wrong"
            }
            Self::HeaderValuePerRequest => {
                "nearly every request brings a new value of the header that is the key, and so a new budget: limit \
                 by what the service has checked (`Extension`, `key_lookup`), by `ClientIp`, or by a header that \
                 stays the same for a client; if there are so many clients, nothing is wrong"
            }
            Self::SharedLimitName => {
                "two limits share a limiter and a name, so each request to one takes from the other's budget: give \
                 each a `name(..)` of its own, or, for one budget, the same name and quotas or clones of one layer"
            }
            Self::LayerPerRequest => {
                "10000 layers with a store of their own were built and dropped: one that is built for each request \
                 or connection limits nothing, since it knows of no other; build it once and clone it, or keep a \
                 `RateLimiter` and pass it with `limiter(..)`"
            }
            Self::UnreadBody => {
                "a refused HTTP/1 request has a body of a type that the layer cannot read, so a client that is still \
                 sending gets a reset instead of its answer: name the type with `drain_body::<..>()` on the layer's \
                 builder"
            }
            Self::CoarseBuckets => {
                "the buckets are longer than a tenth of a window, and units are held for up to a bucket beyond it, so a \
                 busy limit admits much less than it says: write a smaller `rate_group_size_ms`, at most a hundredth \
                 of the shortest window"
            }
            Self::KeysFull => {
                "a limit keeps as many keys as `max_keys` allows, and all are in use, so new clients share budgets and \
                 may be refused for what others did: set `RateLimiter::builder().max_keys(..)` to at least the number \
                 of distinct clients in the longest window, or use a shorter window"
            }
            Self::RedisLost => "limits follow `on_store_error` until Redis answers a probe",
            Self::RedisBack => "Redis answers again, and decides",
            Self::RedisOdd => "some requests follow `on_store_error`",
            Self::RedisForgot => {
                "Redis has lost counts (a restart without persistence, a failover, an eviction, a clock that stepped \
                 forward, or a `clear()`): this instance brings back what it has admitted itself, key by key"
            }
            Self::RedisInstances => {
                "the instances cannot be counted in Redis, so each takes the whole limit for its share during an \
                 outage: write their number with `RedisOptions::instances`, or fix the cause"
            }
            Self::RedisNameShared => {
                "more was charged under a name in Redis than its limit admits: another process uses this name and \
                 prefix with other quotas, or for another service, so give each service a `prefix(..)` and each limit \
                 a `name(..)` of its own; if the limit was just changed on some instances, nothing is wrong"
            }
        })
    }
}

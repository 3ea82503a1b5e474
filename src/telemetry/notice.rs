//! The notices: their codes and their texts.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::log::Level;

/// The notices that were logged or silenced, one bit for each.
pub(super) static NOTIFIED: AtomicU32 = AtomicU32::new(0);

/// A log line: a mistake that shows only in traffic, logged once per process, or the state of Redis.
///
/// Each notice has a code, a cause and a fix. It never contains a key, an address or a token. With the feature
/// `tracing`, notices go to `tracing` with the target `tower_weir`. Without it, they go to standard error.
///
/// Some notices are guesses, and the configuration may be intended. If it is, call [`silence`](Self::silence).
///
/// # Examples
///
/// ```
/// use tower_weir::telemetry::Notice;
///
/// // At the start of the program: this service has one client, in the same private network.
/// Notice::SharedPrivatePeer.silence();
/// assert_eq!(Notice::SharedPrivatePeer.code(), "shared-private-peer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// `missing-peer-address`: a request has no peer address, and the limit needs one.
    MissingPeerAddress,
    /// `unusable-proxy-header`: a trusted proxy sends no usable address of its client.
    UnusableProxyHeader,
    /// `missing-key`: the service did not provide the value of the key.
    MissingKey,
    /// `key-function-finds-none`: the function of [`key_fn`](crate::RateLimitLayerBuilder::key_fn) found no key for
    /// the first 100 requests.
    KeyFunctionFindsNone,
    /// `untrusted-forwarding-header`: `X-Forwarded-For` or `Forwarded` arrives, and
    /// [`ClientIp::peer()`](crate::ClientIp::peer) reads neither.
    ///
    /// Logged at once if a private address sends the header. Other addresses may invent it. For those, it is logged if
    /// most of the process's first 1000 requests have the header, and at least 20 requests.
    UntrustedForwardingHeader,
    /// `shared-private-peer`: one private address, or one trusted proxy without a forwarding header, sends most
    /// requests, and [`ClientIp`](crate::ClientIp) gives it one budget.
    ///
    /// Judged by the process's first 1000 requests. Private addresses are those of RFC 1918, RFC 4193 and RFC 6598,
    /// link-local addresses, and those of this machine.
    SharedPrivatePeer,
    /// `header-value-per-request`: nearly every request has a new value of the [`Header`](crate::key::Header) that is
    /// the key.
    ///
    /// Judged by the key's first 4096 requests, of which nine in ten must have a distinct value.
    /// [`hashed`](crate::key::Header::hashed) values are not judged.
    HeaderValuePerRequest,
    /// `quota-lookup-failed`: the function that finds the quotas of a request failed.
    ///
    /// The line names the kind of failure. It never contains the text of the error, which may contain a key.
    QuotaLookupFailed,
    /// `limit-opened-twice`: two limits in use share a limiter and a name, and therefore their budgets.
    ///
    /// Logged if both limits use the default name, or if their quotas or strategies differ. Two layers with the same
    /// name and the same quotas are not logged.
    SharedLimitName,
    /// `layer-per-request`: the process repeatedly builds and drops layers with their own store.
    ///
    /// Logged when the process drops the 10 000th one.
    LayerPerRequest,
    /// `unsupported-quotas`: a function chose quotas that the store does not support.
    ///
    /// A name has at most eight different windows at a time. A store's buckets must fit each window, and a history must
    /// be able to address them.
    UnsupportedQuotas,
    /// `unread-body`: a refused HTTP/1 request has a body of a type that the layer cannot read, so its client may lose
    /// the response.
    UnreadBody,
    /// `coarse-buckets`: the buckets are longer than a tenth of a window, so much of the limit is unused.
    ///
    /// A limit holds a unit for its window and for the rest of its bucket. Judged when a limiter or a layer is built.
    CoarseBuckets,
    /// `keys-full`: a limit has no room for another key, so unknown keys share budgets.
    KeysFull,
    /// `redis-lost`: Redis is unavailable, and requests follow [`OnStoreError`](crate::OnStoreError).
    ///
    /// Logged for each outage, at most once in ten seconds. The line contains the cause and its fix, and the number of
    /// short outages without a line.
    RedisLost,
    /// `redis-back`: Redis decides again after a `redis-lost`. This is the only line of level INFO.
    RedisBack,
    /// `redis-odd`: Redis gives no usable reply to some requests. Those follow [`OnStoreError`](crate::OnStoreError).
    /// Logged once for each store.
    RedisOdd,
    /// `redis-forgot`: Redis has lost counts, and each hybrid instance resubmits its own. Logged once for each store.
    RedisForgot,
    /// `redis-instances`: the store cannot count the instances in Redis. Logged once for each store.
    RedisInstances,
    /// `redis-name-shared`: more units were charged under a name in Redis than its limit admits.
    ///
    /// Another process uses the name and prefix with other quotas, or for another service.
    RedisNameShared,
}

impl Notice {
    /// The code in the log, which does not change between versions.
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
            Self::QuotaLookupFailed => "quota-lookup-failed",
            Self::SharedLimitName => "limit-opened-twice",
            Self::LayerPerRequest => "layer-per-request",
            Self::UnsupportedQuotas => "unsupported-quotas",
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

    /// Prevents this process from logging the notice from now on.
    pub fn silence(self) {
        NOTIFIED.fetch_or(self.bit(), Ordering::Relaxed);
    }

    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    pub(super) const fn level(self) -> Level {
        match self {
            Self::MissingPeerAddress | Self::UnusableProxyHeader | Self::MissingKey => Level::Error,
            Self::QuotaLookupFailed => Level::Error,
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
                 router with `into_make_service_with_connect_info::<SocketAddr>()`. Enable the feature `axum` or \
                 `tonic` of tower-weir for the server in use, or insert a `SocketAddr` into the request's extensions. \
                 A Unix socket has no peer address: behind a proxy write `ClientIp::behind([\"unix:\"])`, otherwise \
                 use another key, such as `Global`"
            }
            Self::UnusableProxyHeader => {
                "a request from a trusted proxy names no usable client address, so it cannot be limited by one. Let \
                 the proxy write the header that `ClientIp` reads (`X-Forwarded-For`, or the one declared with \
                 `forwarded` or `header`). Check the networks of `behind` or the number of `hops`"
            }
            Self::MissingKey => {
                "a request has no key, because the service did not provide it. Put the layer inside the one that \
                 provides the key, fix the lookup, or choose with `on_missing_key` what happens to such requests"
            }
            Self::KeyFunctionFindsNone => {
                "the function of `key_fn` found no key for the first 100 requests. Put the layer inside the one that \
                 provides the value. Let the function return `MissingKey::server_fault(..)` if the service should \
                 provide it. If no client has sent the value yet, nothing is wrong"
            }
            Self::UntrustedForwardingHeader => {
                "requests carry X-Forwarded-For or Forwarded, and `ClientIp::peer()` reads neither. If a proxy writes \
                 it, all clients share the proxy's budget, so write `ClientIp::behind([..])` with the proxy's \
                 networks, or `ClientIp::hops(n)`. If clients reach the service directly, nothing is wrong"
            }
            Self::SharedPrivatePeer => {
                "one private address, or one trusted proxy without a forwarding header, sends most requests, and \
                 `ClientIp` gives it one budget. If it forwards clients' requests, let it send its client's address, \
                 and write `ClientIp::behind([..])` or `ClientIp::hops(n)`. If it is one client or sends health \
                 checks, nothing is wrong"
            }
            Self::HeaderValuePerRequest => {
                "nearly every request has a new value of the header that is the key, and so a new budget. Limit by \
                 what the service has checked (`Extension`, `key_lookup`), by `ClientIp`, or by a header that stays \
                 the same for a client. If the service has so many clients, nothing is wrong"
            }
            Self::QuotaLookupFailed => {
                "the function that finds the quotas of a request failed. Requests use the last value of their key. \
                 Without one, the limit cannot decide them. The function is called again after a second. Check \
                 its source, and log the error in the function. Let it return within five seconds"
            }
            Self::SharedLimitName => {
                "two limits share a limiter and a name, so each request to one takes from the other's budget. Give \
                 each its own `name(..)`. For one budget, use the same name and quotas, or clones of one layer"
            }
            Self::LayerPerRequest => {
                "10000 layers with their own stores were built and dropped. A layer that is built for each request or \
                 connection limits nothing, because it shares no state with the others. Build it once and clone it, \
                 or keep a `RateLimiter` and pass it with `limiter(..)`"
            }
            Self::UnsupportedQuotas => {
                "a function chose quotas that the limit's store does not support, so the request followed \
                 `on_store_error`. Use at most eight different windows for one limit, none shorter than the store's \
                 buckets, and pass a store with suitable buckets with `limiter(..)`"
            }
            Self::UnreadBody => {
                "the layer cannot read the body type of a refused HTTP/1 request. A client that is still sending gets \
                 a reset instead of the response. Name the type with `drain_body::<..>()` on the layer's \
                 builder"
            }
            Self::CoarseBuckets => {
                "the buckets are longer than a tenth of a window. Units are held for up to a bucket beyond the window, \
                 so a busy limit admits much less than it states. Write a smaller `rate_group_size_ms`, at most a \
                 hundredth of the shortest window"
            }
            Self::KeysFull => {
                "a limit has `max_keys` keys, and all are in use, so new clients share budgets and may be refused \
                 because of other clients. Set `RateLimiter::builder().max_keys(..)` to at least the number of \
                 distinct clients in the longest window, or use a shorter window"
            }
            Self::RedisLost => "limits follow `on_store_error` until Redis responds to a probe",
            Self::RedisBack => "Redis responds again, and decides",
            Self::RedisOdd => "some requests follow `on_store_error`",
            Self::RedisForgot => {
                "Redis has lost counts (a restart without persistence, a failover, an eviction, a clock that stepped \
                 forward, or a `clear()`). This instance resubmits its own admissions, key by key"
            }
            Self::RedisInstances => {
                "the store cannot count the instances in Redis, so each instance would allow the full limit during an \
                 outage. Set `RedisOptions::instances(n)`, or fix the cause"
            }
            Self::RedisNameShared => {
                "more units were charged under a name in Redis than its limit admits. Another process uses this name \
                 and prefix with other quotas, or for another service. Give each service its own `prefix(..)` and \
                 each limit its own `name(..)`. If the limit was just changed on some instances, nothing is wrong"
            }
        })
    }
}

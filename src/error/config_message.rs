//! The messages of configuration errors, which state what to write instead.

use std::fmt;

use super::config_error::ConfigError;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroWindow => f.write_str("the window is zero; write at least 1 second (1 ms for a Quota)"),
            Self::ZeroBucket => f.write_str("the bucket size is zero; write at least 1 ms"),
            Self::BucketExceedsWindow { bucket_ms, window_ms } => write!(
                f,
                "buckets of {bucket_ms} ms do not fit a window of {window_ms} ms; write rate_group_size_ms({window_ms}) or less"
            ),
            Self::WindowTooLong { window_ms, least_bucket_ms } => write!(
                f,
                "a window of {window_ms} ms needs larger buckets; write rate_group_size_ms({least_bucket_ms}) or more"
            ),
            Self::WindowsTooFarApart { shortest_ms, longest_ms } => write!(
                f,
                "windows of {shortest_ms} ms and {longest_ms} ms cannot share a history; write two layers, one for each"
            ),
            Self::InvalidRate(rate) => {
                write!(f, "a rate of {rate} per second is not possible; write a finite number above 0")
            }
            Self::InvalidHardLimitFactor(factor) => {
                write!(f, "a hard limit factor of {factor} is not possible; write a finite number of at least 1.0")
            }
            Self::CapacityBelowOne => f.write_str(
                "the limit admits less than one unit in its window, so it would refuse everything; \
                 write a higher rate, a longer window, or Quota::reject_all()",
            ),
            Self::CapacityTooLarge => {
                f.write_str("the limit is above 549755813888 (2^39) units in its window; write a lower one")
            }
            Self::InvalidQuota(text) => write!(
                f,
                "{text:?} is not a quota; write a count above 0 and a period, as in \"100/s\", \"5/10s\", \"0.5/min\", \"5000/h\" or \"1/d\""
            ),
            Self::QuotaFraction { text, instead } => write!(
                f,
                "{text:?} would need a much longer window, and so a much larger burst; write {instead:?}, or another \
                 whole count"
            ),
            Self::InvalidBan(text) => write!(
                f,
                "{text:?} is not a ban; write a number of refusals, their window and a time, as in \"20 in 1h for 1d\", \
                 or \"manual for 1d\""
            ),
            Self::NoQuota => f.write_str(
                "no quota; write .quota(\"100/s\".parse()?) on the builder, or quotas = \"100/s\" in a configuration",
            ),
            Self::TooManyQuotas { most } => {
                write!(f, "more than {most} quotas for one name; write fewer, or name each limit separately")
            }
            Self::ZeroMaxKeys => f.write_str("max_keys is zero; write at least 1"),
            Self::ZeroMaxWaiting => f.write_str("max_waiting or max_waiting_per_key is zero; write at least 1"),
            Self::NoRedis => f.write_str(
                "the limiter has no Redis; write .redis_url(\"redis://host:6379\") on its builder, or use rl.local()",
            ),
            Self::BucketTooLong { most_ms } => {
                write!(f, "buckets in Redis are at most {most_ms} ms; write rate_group_size_ms({most_ms}) or less")
            }
            Self::InvalidRedisPrefix(prefix) => {
                write!(f, "{prefix:?} is not a valid Redis key prefix; write a text without braces, as in \"weir\"")
            }
            Self::InvalidDeadline(deadline) => write!(
                f,
                "a deadline of {deadline:?} is not possible; write 1 ms to 1 s, as in Duration::from_millis(50)"
            ),
            Self::ZeroInstances => f.write_str("the number of instances is zero; write at least 1"),
            Self::InvalidSyncInterval(ms) => {
                write!(f, "a sync interval of {ms} ms is not possible; write 1 to 60000, as in 50")
            }
            Self::InvalidTolerance(part) => {
                write!(f, "a tolerance of {part} is not possible; write 0 to 1, as in 0.05 for 5 %")
            }
            Self::InvalidHeaderName(name) => {
                write!(f, "{name:?} is not a header name; write letters, digits and hyphens, as in \"x-api-key\"")
            }
            Self::InvalidCookieName(name) => {
                write!(f, "{name:?} is not a cookie name; write letters, digits and signs, as in \"__Host-session\"")
            }
            Self::InvalidPolicyName(name) => {
                write!(f, "limit name {name:?} cannot be sent in a header; write printable ASCII, as in \"burst\"")
            }
            Self::InvalidNetwork(text) => write!(
                f,
                "{text:?} is not a network; write one as in \"192.0.2.0/24\" or \"2001:db8::/32\", or an address"
            ),
            Self::NoNetwork => f.write_str("no network; write at least one, as in [\"192.0.2.0/24\"], or no such list"),
            Self::ExemptsEveryone(text) => write!(
                f,
                "the exempt networks contain all of {text:?}; write the networks of your own clients, as in \
                 \"192.0.2.0/24\", or .enabled(false) for no limit"
            ),
            Self::InvalidExemptPath(path) => write!(
                f,
                "{path:?} never matches, because paths are compared byte by byte; write a path such as \
                 \"/health\", or .exempt(|req| req.uri().path().starts_with(\"/internal/\"))"
            ),
            Self::InvalidRoute(route) => write!(
                f,
                "{route:?} matches no request, or is listed twice; write a route such as \"/users/{{id}}\", \
                 \"POST /login\" or \"/helloworld.Greeter/*\""
            ),
            Self::UnknownLimit { name, known } => write!(f, "no limit has the name {name:?}; write one of {known:?}"),
            Self::DuplicateLimitName(name) => write!(
                f,
                "two limits have the name {name:?}, so they would share their history; write another name for one of them"
            ),
            Self::TooManyLimits { most } => {
                write!(f, "more than {most} limits and bans in one layer; write fewer, or several quotas for one limit")
            }
            Self::InvalidPercentage(percent) => {
                write!(f, "{percent} is not a percentage of the keys; write 0 to 100, as in .enforced_for(5.0) or \"enforce for 5%\"")
            }
            Self::InvalidQuotaCache => f.write_str(
                "the cache of quotas has no lookup or no keys; write .quota_lookup(..).cache(10_000, \
                 Duration::from_secs(60))",
            ),
            Self::QuotasConflict(name) => write!(
                f,
                "the limit {name:?} defines its quotas in several ways; write .quota(..) and .routes(..), or one function, \
                 or one lookup"
            ),
            Self::MeterConflict(name) => write!(
                f,
                "the limit {name:?} meters responses, so it cannot settle or be suppressed; write a second limit with \
                 .settle(..) or .suppressed(..)"
            ),
            Self::AtLimitWithoutMeter(name) => {
                write!(f, "the limit {name:?} has .at_limit(..) and no meter; write .meter(..) or .meter_bytes() before it")
            }
            Self::InvalidInFlight(most) => write!(
                f,
                "a cap of {most} requests in flight is not possible; write 1 to 549755813888, as in .in_flight(4), or \
                 Quotas::BLOCKED to refuse everything"
            ),
            Self::InvalidPermitTtl(text) => write!(
                f,
                "{text} is not a time to live of a permit; write 1 second to 1 day, as in \
                 .permit_ttl(Duration::from_secs(60)) or \"60s\""
            ),
            Self::InvalidTopKeys(text) => write!(
                f,
                "{text:?} is not a number of keys to track; write 1 to 1000, and a period of 1 second to 1 day, as in \
                 \"100 ids\" or \"100 names every 5min\""
            ),
            Self::InFlightConflict { limit, what } => write!(f, "the limit {limit:?} {what}"),
            Self::NoMethod => f.write_str(
                "no method to limit; write at least one, as in .methods([Method::POST]), or .enabled(false)",
            ),
            Self::HeadersConflict => f.write_str(
                "two of the header families write the same header; write one draft, and XRateLimit beside it, as in \
                 .headers(Draft8).also_headers(XRateLimit { .. })",
            ),
            Self::AnswerTooLarge { bytes, most } => write!(
                f,
                "the headers of a refusal would take {bytes} bytes, and gRPC clients accept {most}; write a shorter \
                 name or message, or .protocol(Protocol::Http)"
            ),
            Self::InvalidStatus(status) => {
                write!(f, "{status} is not a valid status for a refusal; write one from 400 to 599, as in 429")
            }
            Self::InvalidTrustedProxy(text) => write!(
                f,
                "{text:?} is not a trusted proxy; write a network, as in \"10.0.0.0/8\" or \"fd00::/8\", an address, or \"unix:\""
            ),
            Self::TrustedProxyHostBits { given, network, address }
            | Self::NetworkHostBits { given, network, address } => write!(
                f,
                "{given:?} has bits set beyond its prefix; write {network:?} for the network, or {address:?} for the one address"
            ),
            Self::TrustsEveryone(text) => write!(
                f,
                "{text:?} would let every client name its own address; write the networks of your proxies, as in \
                 \"10.0.0.0/8\", or ClientIp::hops(n) for exactly n proxies"
            ),
            Self::NoTrustedProxy => f.write_str(
                "no trusted proxy; write the networks of your proxies, as in ClientIp::behind([\"10.0.0.0/8\"]), or \
                 ClientIp::peer() if there is none",
            ),
            Self::AddressHeaderWithoutProxy => f.write_str(
                "ClientIp::peer() reads no header; write ClientIp::behind([\"10.0.0.0/8\"]) with the networks of your \
                 proxies, or ClientIp::hops(n), and declare the header on that",
            ),
            Self::SeveralAddressHeaders => f.write_str(
                "more than one header for the client's address; write only the one that your proxy overwrites or appends \
                 to",
            ),
            Self::InvalidPrefixLength { bits, most } => {
                write!(f, "/{bits} is not a valid prefix for an address of {most} bits; write 0 to {most}")
            }
            Self::InvalidRedisUrl(problem) => write!(
                f,
                "the Redis URL {problem}; write redis://user:password@host:6379/0, with rediss:// for TLS, or \
                 unix:///path/to/redis.sock"
            ),
            Self::RedisTlsMissing => f.write_str(
                "rediss:// needs TLS, which is not compiled in; add the feature redis-rustls, or write redis:// for a \
                 connection without TLS",
            ),
            Self::NoRedisUrl => f.write_str("no Redis URL; write at least one, as in \"redis://host:6379\""),
            Self::RedisUrlsDiffer => f.write_str(
                "the Redis URLs differ in more than host and port; write the same user, password, database, protocol \
                 and TLS in all",
            ),
            Self::InvalidKey(text) => write!(
                f,
                "{text:?} is not a key; write one of client-ip, client-ip behind 10.0.0.0/8, client-ip hops 1, header \
                 x-tenant, cookie session, method, route (feature axum), grpc-service, grpc-method and global. Write \
                 hashed before header or cookie, and + between keys"
            ),
            Self::UnknownWord { text, known } => {
                write!(f, "{text:?} is unknown; write one of {}", known.join(", "))
            }
            Self::CodeInText(text) => write!(
                f,
                "{text:?} is code, which a text cannot contain; write a value, or set it on the builder, and the rest \
                 with .config(..)"
            ),
            Self::InvalidRow(text) => write!(
                f,
                "{text:?} is not a row; write a limit in five cells (limit, per, quotas, strategy, mode), with two or \
                 more blanks between cells. Below it, write \"  /search  20/s\" or \"  cost  /search  5\""
            ),
            Self::InvalidField { field, error } => write!(f, "{field}: {error}"),
            Self::InvalidLine { line, error } => write!(f, "line {line}: {error}"),
        }
    }
}

use std::error::Error;
use std::time::Duration;

/// A mistake in the configuration, found before the first request.
///
/// Its message states what to write instead.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A window of zero length.
    ZeroWindow,
    /// A bucket of zero length.
    ZeroBucket,
    /// A bucket that is longer than the window it divides.
    BucketExceedsWindow {
        /// The bucket's length in milliseconds.
        bucket_ms: u64,
        /// The window's length in milliseconds.
        window_ms: u64,
    },
    /// A window with more buckets than a key's history can address.
    WindowTooLong {
        /// The window's length in milliseconds.
        window_ms: u64,
        /// The smallest possible bucket, in milliseconds.
        least_bucket_ms: u64,
    },
    /// Quotas of one layer with windows too far apart for buckets of one size.
    WindowsTooFarApart {
        /// The shortest window in milliseconds.
        shortest_ms: u64,
        /// The longest window in milliseconds.
        longest_ms: u64,
    },
    /// A rate that is not a finite number above zero.
    InvalidRate(f64),
    /// A hard limit factor that is not a finite number of at least 1.
    InvalidHardLimitFactor(f64),
    /// A limit that admits less than one unit in its window.
    CapacityBelowOne,
    /// A limit above 2^39 units in its window.
    CapacityTooLarge,
    /// A ban without refusals or without a time, or a text that is not a ban.
    InvalidBan(String),
    /// A text that is not a quota.
    InvalidQuota(String),
    /// A quota with a fraction that only a much longer window could hold exactly. Its burst would be much larger too.
    QuotaFraction {
        /// The given text.
        text: String,
        /// A quota with a whole count and nearly the same average.
        instead: String,
    },
    /// A layer without a quota.
    NoQuota,
    /// Too many quotas, or too many distinct windows under one name.
    TooManyQuotas {
        /// The largest possible number.
        most: usize,
    },
    /// A bound of zero keys.
    ZeroMaxKeys,
    /// A bound of zero waiting calls.
    ZeroMaxWaiting,
    /// A limiter without Redis, used for a limit that needs Redis.
    NoRedis,
    /// A bucket longer than a Redis store supports.
    BucketTooLong {
        /// The longest possible bucket, in milliseconds.
        most_ms: u64,
    },
    /// A prefix of Redis keys that is empty or contains braces.
    InvalidRedisPrefix(String),
    /// A deadline for Redis that is shorter than a millisecond or longer than a second.
    InvalidDeadline(Duration),
    /// Zero instances.
    ZeroInstances,
    /// A sync interval that is zero or longer than a minute, in milliseconds.
    InvalidSyncInterval(u64),
    /// A tolerance that is not a number from 0 to 1.
    InvalidTolerance(f64),
    /// A name that is not a valid HTTP header name.
    InvalidHeaderName(String),
    /// A name that is not a valid cookie name.
    InvalidCookieName(String),
    /// A name that cannot be sent to clients in a header.
    InvalidPolicyName(String),
    /// A text that is not a network.
    InvalidNetwork(String),
    /// A network with bits set beyond its prefix.
    NetworkHostBits {
        /// The given text.
        given: String,
        /// The network that contains it.
        network: String,
        /// The address without the prefix.
        address: String,
    },
    /// An empty list of networks.
    NoNetwork,
    /// Exempt networks that contain every address of a family.
    ExemptsEveryone(String),
    /// An exempt path that no request's path equals.
    InvalidExemptPath(String),
    /// A route that matches no request, or that is listed twice.
    InvalidRoute(String),
    /// A layer has no limit with this name.
    UnknownLimit {
        /// The given name.
        name: String,
        /// The names of the layer's limits.
        known: Vec<String>,
    },
    /// Two limits of one layer with the same name.
    DuplicateLimitName(String),
    /// Too many limits in one layer.
    TooManyLimits {
        /// The largest possible number.
        most: usize,
    },
    /// A percentage of the keys that is not a number from 0 to 100.
    InvalidPercentage(f64),
    /// A cache of quotas without keys, or without a lookup before it.
    InvalidQuotaCache,
    /// A limit whose quotas are defined in more than one way.
    QuotasConflict(String),
    /// A limit that meters responses, and also settles their charges or is suppressed.
    MeterConflict(String),
    /// A limit with [`at_limit`](crate::Limit::at_limit) that meters nothing.
    AtLimitWithoutMeter(String),
    /// A cap on requests in flight that is 0, or above 2^39.
    InvalidInFlight(u64),
    /// A time to live of a permit that is not 1 second to 1 day.
    InvalidPermitTtl(String),
    /// A number of keys to track that is not 1 to 1000, a period that is not 1 second to 1 day, or another text.
    InvalidTopKeys(String),
    /// A cap on requests in flight with what it cannot have.
    InFlightConflict {
        /// The name of the limit.
        limit: String,
        /// The mistake and its fix.
        what: &'static str,
    },
    /// An empty list of methods to limit.
    NoMethod,
    /// Two families of header fields that write the same header.
    HeadersConflict,
    /// A message or name that makes a refusal's headers larger than gRPC clients accept.
    AnswerTooLarge {
        /// The size of a refusal's headers in bytes.
        bytes: usize,
        /// The largest possible size.
        most: usize,
    },
    /// A status that is not an error status (400 to 599).
    InvalidStatus(u16),
    /// A trusted proxy that is neither a network nor an address nor `unix:`.
    InvalidTrustedProxy(String),
    /// A network of trusted proxies with bits set beyond its prefix.
    TrustedProxyHostBits {
        /// The given text.
        given: String,
        /// The network that contains it.
        network: String,
        /// The address without the prefix.
        address: String,
    },
    /// Trust in every address, so that each client could choose its own address.
    TrustsEveryone(String),
    /// An empty list of trusted proxies.
    NoTrustedProxy,
    /// A header with the client's address, but no proxy that is trusted to write it.
    AddressHeaderWithoutProxy,
    /// More than one header with the client's address.
    SeveralAddressHeaders,
    /// A prefix that is longer than the address.
    InvalidPrefixLength {
        /// The given length in bits.
        bits: u8,
        /// The length of the address in bits.
        most: u8,
    },
    /// A URL that is not a Redis URL. The text describes the problem and contains no part of the URL, which may hold a
    /// password.
    InvalidRedisUrl(&'static str),
    /// A URL that requires TLS, which is not compiled in.
    RedisTlsMissing,
    /// An empty list of Redis URLs.
    NoRedisUrl,
    /// URLs of one cluster, or of its sentinels, that differ in user, password or protocol.
    RedisUrlsDiffer,
    /// A text that is not a key.
    InvalidKey(String),
    /// A word that is not one of the possible values.
    UnknownWord {
        /// The given text.
        text: String,
        /// The possible values, or examples of them.
        known: &'static [&'static str],
    },
    /// A text that names a function in the code, which cannot be read back.
    CodeInText(String),
    /// A line that is not a row of a policy's table.
    InvalidRow(String),
    /// A mistake in one field of a configuration.
    InvalidField {
        /// The field, such as `limits[1].quotas`.
        field: String,
        /// The mistake.
        error: Box<ConfigError>,
    },
    /// A mistake in one line of a policy's table.
    InvalidLine {
        /// The line; the first line is 1.
        line: usize,
        /// The mistake.
        error: Box<ConfigError>,
    },
}

impl Error for ConfigError {}

/// Converts for setters that accept a value or its text.
impl From<std::convert::Infallible> for ConfigError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

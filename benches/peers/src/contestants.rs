//! The engines, each behind the same face.

use std::fmt::Write as _;
use std::hash::Hash;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota};
use tower_weir::store::{Absolute, LocalLimits, LocalStore};
use trypema::RateLimiterBuilder as _;
use trypema::local::LocalRateLimiterProvider;

/// A rate limiter over keys of one type.
pub trait Engine: Sized + Sync + 'static {
    type Key: Sync + 'static;

    fn new(limit: Limit) -> Self;

    /// Asks for one unit.
    fn admits(&self, key: &Self::Key) -> bool;

    /// Uses up all that a key has.
    fn exhaust(&self, key: &Self::Key) {
        while self.admits(key) {}
    }

    /// Forgets idle keys, where the engine leaves that to its user.
    fn clean(&self) {}

    /// The number of retained keys, if the engine knows it.
    fn keys(&self) -> Option<usize> {
        None
    }
}

/// A limit as all engines can express it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    per_second: f64,
    window_seconds: u64,
    /// How far the suppressed strategy may go above the limit.
    hard: f64,
    /// Whether keys come and go, so that an engine should search for idle keys each second.
    comes_and_goes: bool,
    max_keys: usize,
}

impl Limit {
    /// Never reached.
    pub const fn wide(window_seconds: u64) -> Self {
        Self { per_second: 1e9, window_seconds, hard: 1.0, comes_and_goes: false, max_keys: 1_000_000 }
    }

    /// Never reached, by keys that come and go.
    pub const fn churning(window_seconds: u64) -> Self {
        Self { comes_and_goes: true, ..Self::wide(window_seconds) }
    }

    /// For a flood of keys, with a bound on their number.
    pub const fn flooded(per_second: f64, window_seconds: u64) -> Self {
        Self { per_second, max_keys: 100_000, ..Self::churning(window_seconds) }
    }

    /// Three in an hour: once it is used up, it stays so while a scenario runs.
    pub const TIGHT: Self = Self { per_second: 0.001, hard: 1.0, ..Self::wide(3_600) };

    /// One in a minute, and up to two when suppressed.
    pub const SINGLE: Self = Self { per_second: 0.02, hard: 2.0, ..Self::wide(60) };

    /// Far less than what a benchmark asks for, with room for the suppressed strategy to choose.
    pub const CROWDED: Self = Self { per_second: 1_000.0, hard: 1.5, ..Self::wide(1) };
}

/// `governor`, which keeps one point in time for each key (GCRA) and knows no window: its burst is the limit's
/// capacity, as far as its types allow.
pub struct Governor<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Engine for Governor<K> {
    type Key = K;

    fn new(limit: Limit) -> Self {
        let burst = (limit.per_second * limit.window_seconds as f64).min(1e9) as u32;
        let quota = Quota::with_period(Duration::from_secs_f64(1.0 / limit.per_second)).expect("a period above 0");
        Self(DefaultKeyedRateLimiter::keyed(quota.allow_burst(NonZeroU32::new(burst).expect("a burst above 0"))))
    }

    #[inline]
    fn admits(&self, key: &K) -> bool {
        self.0.check_key(key).is_ok()
    }

    fn clean(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }

    fn keys(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// `trypema`'s local provider, absolute or suppressed.
pub struct Trypema<const SUPPRESSED: bool>(Arc<LocalRateLimiterProvider>, trypema::RateLimit);

impl<const SUPPRESSED: bool> Engine for Trypema<SUPPRESSED> {
    type Key = String;

    fn new(limit: Limit) -> Self {
        let mut builder = LocalRateLimiterProvider::builder()
            .window_size(trypema::WindowSize::seconds_or_panic(limit.window_seconds))
            .hard_limit_factor(trypema::HardLimitFactor::new_or_panic(limit.hard));
        if limit.comes_and_goes {
            let second = Duration::from_secs(1);
            builder = builder.stale_after(Duration::from_secs(limit.window_seconds)).cleanup_interval(second);
        }
        Self(builder.build().expect("consistent options"), trypema::RateLimit::per_second_or_panic(limit.per_second))
    }

    #[inline]
    fn admits(&self, key: &String) -> bool {
        use trypema::RateLimitDecision::{Allowed, Suppressed};
        let decision = match SUPPRESSED {
            false => self.0.absolute().inc(key, &self.1, 1),
            true => self.0.suppressed().inc(key, &self.1, 1),
        };
        matches!(decision, Allowed | Suppressed { is_allowed: true, .. })
    }
}

/// This crate's local store under its calls for bare rates.
pub struct Weir {
    local: LocalStore,
    rate: tower_weir::RateLimit,
}

impl Weir {
    pub fn new(limit: Limit) -> Self {
        let limiter = tower_weir::RateLimiter::builder()
            .window_size_seconds(limit.window_seconds.try_into().expect("a valid window"))
            .hard_limit_factor(limit.hard.try_into().expect("a valid factor"))
            .max_keys(limit.max_keys)
            .build()
            .expect("consistent options");
        Self { local: limiter.local().clone(), rate: limit.per_second.try_into().expect("a valid rate") }
    }

    #[inline]
    fn absolute(&self) -> LocalLimits<'_, Absolute> {
        self.local.absolute()
    }
}

/// This crate by text, absolute or suppressed.
pub struct WeirText<const SUPPRESSED: bool>(Weir);

impl<const SUPPRESSED: bool> Engine for WeirText<SUPPRESSED> {
    type Key = String;

    fn new(limit: Limit) -> Self {
        Self(Weir::new(limit))
    }

    fn keys(&self) -> Option<usize> {
        Some(self.0.local.keys())
    }

    #[inline]
    fn admits(&self, key: &String) -> bool {
        match SUPPRESSED {
            false => self.0.absolute().inc(key, &self.0.rate, 1).is_allowed(),
            true => self.0.local.suppressed().inc(key, &self.0.rate, 1).is_allowed(),
        }
    }
}

/// This crate by the bytes of an address.
pub struct WeirIp(Weir);

impl Engine for WeirIp {
    type Key = IpAddr;

    fn new(limit: Limit) -> Self {
        Self(Weir::new(limit))
    }

    #[inline]
    fn admits(&self, key: &IpAddr) -> bool {
        let decision = match key {
            IpAddr::V4(v4) => self.0.absolute().inc(v4.octets(), &self.0.rate, 1),
            IpAddr::V6(v6) => self.0.absolute().inc(v6.octets(), &self.0.rate, 1),
        };
        decision.is_allowed()
    }
}

/// No engine: what the work around the calls costs.
pub struct Nothing;

impl Engine for Nothing {
    type Key = String;

    fn new(_: Limit) -> Self {
        Self
    }

    #[inline]
    fn admits(&self, key: &String) -> bool {
        key.touch()
    }
}

/// A key that can be made from a number, and read.
pub trait AsKey: Sync + 'static {
    fn numbered(number: u32) -> Self;

    /// Reads the key's bytes.
    fn touch(&self) -> bool;
}

impl AsKey for IpAddr {
    fn numbered(number: u32) -> Self {
        // From 10.0.0.0 on.
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    #[inline]
    fn touch(&self) -> bool {
        black_box(self).is_ipv4()
    }
}

impl AsKey for String {
    /// Sixteen bytes, as long as many addresses are when written out.
    fn numbered(number: u32) -> Self {
        format!("user:{number:011}")
    }

    #[inline]
    fn touch(&self) -> bool {
        black_box(self).as_bytes()[0] == b'u'
    }
}

/// Makes a text the key of another number, without an allocation.
pub fn renumber(key: &mut String, number: u32) {
    key.clear();
    write!(key, "user:{number:011}").expect("a String takes all text");
}

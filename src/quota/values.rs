use std::fmt;

use super::ratio::Ratio;
use crate::error::ConfigError;
use crate::quota::MAX_CAPACITY;

/// The length of the sliding window in whole seconds, at least 1.
///
/// The default is 60. The maximum depends on the bucket size: a window has at most 2^24 - 2 buckets. With the default
/// bucket of 10 ms, that is 46 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowSizeSeconds(u64);

impl WindowSizeSeconds {
    /// The length in seconds.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for WindowSizeSeconds {
    type Error = ConfigError;

    fn try_from(seconds: u64) -> Result<Self, ConfigError> {
        if seconds == 0 { Err(ConfigError::ZeroWindow) } else { Ok(Self(seconds)) }
    }
}

impl Default for WindowSizeSeconds {
    fn default() -> Self {
        Self(60)
    }
}

impl fmt::Display for WindowSizeSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// The size of a bucket in milliseconds. Units that arrive within one bucket are counted together and expire together.
///
/// The size is at least 1 and at most the window; the default is 10. A limit holds a unit for its window and up to one
/// bucket longer, never shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RateGroupSizeMs(u64);

impl RateGroupSizeMs {
    /// The size in milliseconds.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for RateGroupSizeMs {
    type Error = ConfigError;

    fn try_from(ms: u64) -> Result<Self, ConfigError> {
        if ms == 0 { Err(ConfigError::ZeroBucket) } else { Ok(Self(ms)) }
    }
}

impl Default for RateGroupSizeMs {
    fn default() -> Self {
        Self(10)
    }
}

impl fmt::Display for RateGroupSizeMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// The longest time between two syncs of a key in use, in milliseconds, for the hybrid store.
///
/// It is 1 to 60 000; the default is 50.
///
/// A key with less than one request per interval is decided in Redis each time. Near a limit, the units that an
/// instance holds and does not spend return after one interval. Far below the limit, intervals stretch to ten times
/// the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncIntervalMs(u64);

impl SyncIntervalMs {
    const MOST: u64 = 60_000;

    /// The interval in milliseconds.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for SyncIntervalMs {
    type Error = ConfigError;

    fn try_from(ms: u64) -> Result<Self, ConfigError> {
        if (1..=Self::MOST).contains(&ms) { Ok(Self(ms)) } else { Err(ConfigError::InvalidSyncInterval(ms)) }
    }
}

impl Default for SyncIntervalMs {
    fn default() -> Self {
        Self(50)
    }
}

impl fmt::Display for SyncIntervalMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// The part of a limit by which the hybrid store may exceed it, from 0 to 1. The store then calls Redis less often.
/// The default is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Tolerance(f64);

impl Tolerance {
    /// The part.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// A capacity plus this part, rounded down and at most 2^39.
    #[cfg(feature = "_redis")]
    pub(crate) fn widen(self, capacity: u64) -> u64 {
        let more = Ratio::from_f64(self.0).times(capacity);
        capacity.saturating_add(more).min(MAX_CAPACITY)
    }
}

impl TryFrom<f64> for Tolerance {
    type Error = ConfigError;

    fn try_from(part: f64) -> Result<Self, ConfigError> {
        if (0.0..=1.0).contains(&part) { Ok(Self(part)) } else { Err(ConfigError::InvalidTolerance(part)) }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How far the suppressed strategy may exceed its limit at most, as a factor of at least 1.
///
/// With the default of 1.0, the limit itself is the hard cap. A larger factor leaves room to thin a sudden overload
/// smoothly instead of cutting it off. The long-run rate stays at the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardLimitFactor {
    factor: f64,
    exact: Ratio,
}

impl HardLimitFactor {
    /// The factor.
    #[must_use]
    pub fn get(self) -> f64 {
        self.factor
    }

    /// The hard cap for a capacity, rounded down and at most 2^39.
    #[inline]
    pub(crate) fn cap(self, capacity: u64) -> u64 {
        self.exact.times(capacity).min(MAX_CAPACITY)
    }
}

impl TryFrom<f64> for HardLimitFactor {
    type Error = ConfigError;

    fn try_from(factor: f64) -> Result<Self, ConfigError> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(ConfigError::InvalidHardLimitFactor(factor));
        }
        Ok(Self { factor, exact: Ratio::from_f64(factor) })
    }
}

impl Default for HardLimitFactor {
    fn default() -> Self {
        Self { factor: 1.0, exact: Ratio::from_f64(1.0) }
    }
}

impl fmt::Display for HardLimitFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.factor, f)
    }
}

#[cfg(feature = "serde")]
super::serde_as!(WindowSizeSeconds, u64, |value| value.0);
#[cfg(feature = "serde")]
super::serde_as!(RateGroupSizeMs, u64, |value| value.0);
#[cfg(feature = "serde")]
super::serde_as!(HardLimitFactor, f64, |value| value.factor);
#[cfg(feature = "serde")]
super::serde_as!(SyncIntervalMs, u64, |value| value.0);
#[cfg(feature = "serde")]
super::serde_as!(Tolerance, f64, |value| value.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert!(WindowSizeSeconds::try_from(0).is_err());
        assert!(RateGroupSizeMs::try_from(0).is_err());
        for bad in [0.0, 0.99, -1.0, f64::NAN, f64::INFINITY] {
            assert!(HardLimitFactor::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_of_the_hybrid_store_are_checked() {
        for bad in [0, 60_001, u64::MAX] {
            assert!(SyncIntervalMs::try_from(bad).is_err(), "{bad}");
        }
        for bad in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            assert!(Tolerance::try_from(bad).is_err(), "{bad}");
        }
        assert!(SyncIntervalMs::try_from(1).is_ok() && Tolerance::try_from(1.0).is_ok());
    }

    /// The exact product 1.15 x 100 is 115. The float product is 114.99999999999999.
    #[test]
    fn the_hard_cap_is_exact() {
        assert_eq!(HardLimitFactor::try_from(1.15).unwrap().cap(100), 115);
        assert_eq!(HardLimitFactor::try_from(1e300).unwrap().cap(100), MAX_CAPACITY);
        assert_eq!(HardLimitFactor::default().cap(7), 7);
    }
}

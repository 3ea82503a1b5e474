use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::MAX_CAPACITY;
use super::count::count_and_period;
use super::ratio::Ratio;
use crate::error::{ConfigError, shortened};
use crate::quota::WindowSizeSeconds;

/// A rate in units per second. It may be a fraction, as in 0.5 or 5.5.
///
/// The limiter enforces its *capacity*: rate x window units in any window of that length, rounded down. All of them
/// may arrive at once, which is the burst. The number is read as the simplest fraction that rounds to it. So 2.05 per
/// second over a minute is 123 and not 122, and 1.0 / 60.0 is 1.
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimit;
///
/// let rate = RateLimit::try_from(5.5)?;
/// assert_eq!(rate.per_second(), 5.5);
/// assert!(RateLimit::try_from(0.0).is_err());
/// assert!(RateLimit::try_from(f64::NAN).is_err());
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    per_second: f64,
    exact: Ratio,
}

impl RateLimit {
    /// Creates a rate of `count` units per `period`, such as 100 per minute.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidRate`] if the count is 0, and [`ConfigError::ZeroWindow`] if the period is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_weir::{RateLimit, WindowSizeSeconds};
    ///
    /// let rate = RateLimit::per(100, Duration::from_secs(60))?;
    /// assert_eq!(rate.capacity(WindowSizeSeconds::try_from(60)?)?, 100);
    /// assert_eq!(rate, "100/min".parse()?);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn per(count: u64, period: Duration) -> Result<Self, ConfigError> {
        match (count, period.as_millis()) {
            (_, 0) => Err(ConfigError::ZeroWindow),
            (0, _) => Err(ConfigError::InvalidRate(0.0)),
            (_, ms) => Ok(Self::of(Ratio::reduced(u128::from(count) * 1_000, ms))),
        }
    }

    fn of(exact: Ratio) -> Self {
        Self { per_second: exact.num() as f64 / exact.den() as f64, exact }
    }

    /// The rate in units per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// The number of units that this rate admits in any window of the given length.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::CapacityBelowOne`] if the capacity is 0, and [`ConfigError::CapacityTooLarge`] if it is
    /// above 2^39. In a call with such a rate, a limiter refuses everything in the first case, and enforces 2^39 in
    /// the second.
    pub fn capacity(&self, window: WindowSizeSeconds) -> Result<u64, ConfigError> {
        match self.exact.times(window.get()) {
            0 => Err(ConfigError::CapacityBelowOne),
            capacity if capacity > MAX_CAPACITY => Err(ConfigError::CapacityTooLarge),
            capacity => Ok(capacity),
        }
    }

    /// The capacity in a call: 0 refuses everything, and 2^39 is the maximum.
    #[inline]
    pub(crate) fn capacity_over(&self, window_seconds: u64) -> u64 {
        self.exact.times(window_seconds).min(MAX_CAPACITY)
    }
}

impl TryFrom<f64> for RateLimit {
    type Error = ConfigError;

    /// Converts a number of units per second, which must be finite and above 0.
    fn try_from(per_second: f64) -> Result<Self, ConfigError> {
        if !per_second.is_finite() || per_second <= 0.0 {
            return Err(ConfigError::InvalidRate(per_second));
        }
        Ok(Self { per_second, exact: Ratio::from_f64(per_second) })
    }
}

impl FromStr for RateLimit {
    type Err = ConfigError;

    /// Reads a count and a period, as in `"10/s"`, `"5.5/s"` or `"100/min"`. The text is that of a
    /// [`Quota`](crate::Quota), but only its average counts.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let read = count_and_period(text);
        let (count, period_ms) = read.ok_or_else(|| ConfigError::InvalidQuota(shortened(text)))?;
        Ok(Self::of(Ratio::reduced(u128::from(count.num()) * 1_000, u128::from(count.den()) * u128::from(period_ms))))
    }
}

impl fmt::Display for RateLimit {
    /// Differs from the form of a [`Quota`](crate::Quota), because a rate does not define a burst.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per second", self.per_second)
    }
}

#[cfg(feature = "serde")]
super::serde_as!(RateLimit, f64, RateLimit::per_second);

#[cfg(test)]
mod tests {
    use super::*;

    /// 123 units per minute over one minute are 123. A float product rounds down to 122.
    #[test]
    fn no_unit_is_lost_to_floating_point() {
        let minute = WindowSizeSeconds::try_from(60).unwrap();
        for n in 1..=10_000_u32 {
            let per_minute = RateLimit::try_from(f64::from(n) / 60.0).unwrap();
            assert_eq!(per_minute.capacity(minute), Ok(u64::from(n)));
            let hundredths = format!("{}.{:02}", n / 100, n % 100).parse::<f64>().unwrap();
            let exact = u64::from(n) * 60 / 100;
            assert_eq!(RateLimit::try_from(hundredths).unwrap().capacity_over(60), exact, "{hundredths}");
        }
        assert_eq!(RateLimit::try_from(2.05).unwrap().capacity(minute), Ok(123));
    }

    #[test]
    fn a_text_and_a_period_give_the_exact_rate() {
        let minute = WindowSizeSeconds::try_from(60).unwrap();
        for (text, capacity) in [("10/s", 600), ("16.67/s", 1_000), ("100/min", 100), ("1/2s", 30), ("7/min", 7)] {
            assert_eq!(text.parse::<RateLimit>().unwrap().capacity(minute), Ok(capacity), "{text}");
        }
        for text in ["", "10", "0/s", "-1/s", "NaN/s", "1/0s"] {
            assert!(text.parse::<RateLimit>().unwrap_err().to_string().contains("write"), "{text}");
        }
        for n in 1..=10_000 {
            let rate = RateLimit::per(n, Duration::from_secs(60)).unwrap();
            assert_eq!((rate.capacity(minute), rate), (Ok(n), RateLimit::try_from(n as f64 / 60.0).unwrap()));
        }
        assert!(RateLimit::per(0, Duration::from_secs(1)).is_err() && RateLimit::per(1, Duration::ZERO).is_err());
        assert_eq!(RateLimit::per(1, Duration::MAX).unwrap().capacity_over(60), 0);
        assert_eq!(RateLimit::try_from(10.0).unwrap().to_string(), "10 per second");
    }

    #[test]
    fn a_rate_out_of_range_is_a_configuration_error() {
        let second = WindowSizeSeconds::try_from(1).unwrap();
        for bad in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(RateLimit::try_from(bad).is_err(), "{bad}");
        }
        let tiny = RateLimit::try_from(0.5).unwrap();
        assert_eq!(tiny.capacity(second), Err(ConfigError::CapacityBelowOne));
        let huge = RateLimit::try_from(1e300).unwrap();
        assert_eq!(huge.capacity(second), Err(ConfigError::CapacityTooLarge));
        assert_eq!(huge.capacity_over(u64::MAX), MAX_CAPACITY);
    }
}

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::MAX_CAPACITY;
use super::ratio::Ratio;
use crate::error::{ConfigError, shortened};
use crate::quota::{RateLimit, WindowSizeSeconds};
use crate::time::millis_up;

/// A count of units in any window of a given length. The layer is configured in quotas.
///
/// `"100/s"` is 100 in any second, and `"5000/h"` is 5000 in any hour. All of them may arrive at once. A fraction is
/// spread over a longer window: `"0.5/s"` is 1 in any 2 s, and `"5.5/s"` is 11 in any 2 s.
///
/// A longer window allows a larger burst. So a fraction that needs more than ten periods is an error, unless it is one
/// unit: `"16.67/s"` would admit 1667 at once. The error contains a quota with a whole count instead.
///
/// Use two quotas to set the average and the burst separately: `"2/200ms"` with `"10/s"` admits 2 at once and 10 in
/// any second.
///
/// The text form is `count / [number] unit`. The units are `ms`, `s`, `min`, `h` and `d`, or their names (`sec`,
/// `second`, `minute`, `hour`, `day` and the plurals).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::Quota;
///
/// assert_eq!("5/10s".parse::<Quota>()?, Quota::new(5, Duration::from_secs(10))?);
/// assert_eq!("0.5/s".parse::<Quota>()?, Quota::new(1, Duration::from_secs(2))?);
/// assert!("0/s".parse::<Quota>().is_err());
/// assert!("16.67/s".parse::<Quota>().unwrap_err().to_string().contains("1000/min"));
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quota {
    count: u64,
    window_ms: u64,
}

impl Quota {
    /// Creates a quota of 1 to 2^39 units in any window of the given length. The window is at least 1 ms, and a
    /// fraction of a millisecond is rounded up.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the count or the window is out of range.
    pub fn new(count: u64, window: Duration) -> Result<Self, ConfigError> {
        let window_ms = millis_up(window);
        match count {
            _ if window_ms == 0 => Err(ConfigError::ZeroWindow),
            0 => Err(ConfigError::CapacityBelowOne),
            _ if count > MAX_CAPACITY => Err(ConfigError::CapacityTooLarge),
            _ => Ok(Self { count, window_ms }),
        }
    }

    /// Creates a quota from a rate and a window.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::CapacityBelowOne`] or [`ConfigError::CapacityTooLarge`].
    pub fn from_rate(rate: &RateLimit, window: WindowSizeSeconds) -> Result<Self, ConfigError> {
        Self::new(rate.capacity(window)?, Duration::from_secs(window.get()))
    }

    /// Creates a quota of units in any second.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the count is 0 or above 2^39. The same holds for the three constructors below.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::Quota;
    ///
    /// assert_eq!(Quota::per_second(100)?, "100/s".parse()?);
    /// assert_eq!(Quota::per_day(5_000)?, "5000/d".parse()?);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn per_second(count: u64) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(1))
    }

    /// Creates a quota of units in any minute; see [`per_second`](Self::per_second).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the count is 0 or above 2^39.
    pub fn per_minute(count: u64) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(60))
    }

    /// Creates a quota of units in any hour; see [`per_second`](Self::per_second).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the count is 0 or above 2^39.
    pub fn per_hour(count: u64) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(3_600))
    }

    /// Creates a quota of units in any 24 hours; see [`per_second`](Self::per_second).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the count is 0 or above 2^39.
    pub fn per_day(count: u64) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(86_400))
    }

    /// Creates the quota that admits nothing.
    #[must_use]
    pub const fn reject_all() -> Self {
        Self { count: 0, window_ms: 1_000 }
    }

    /// A count per period for the layer's short constructors. A count of 0 refuses everything, and a larger count than
    /// 2^39 becomes 2^39.
    #[cfg(feature = "middleware")]
    pub(crate) const fn clamped(count: u64, window_ms: u64) -> Self {
        Self { count: if count > MAX_CAPACITY { MAX_CAPACITY } else { count }, window_ms }
    }

    /// The number of units.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The length of the window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    pub(crate) const fn window_ms(&self) -> u64 {
        self.window_ms
    }
}

impl FromStr for Quota {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::InvalidQuota(shortened(text));
        let (count, period_ms) = count_and_period(text).ok_or_else(invalid)?;
        // count / period with a whole count: num in (period x den).
        let (num, den) = (count.num(), count.den());
        if den > MOST_PERIODS && num > 1 {
            return Err(ConfigError::QuotaFraction {
                text: shortened(text),
                instead: whole(count, period_ms).to_string(),
            });
        }
        let window_ms = period_ms.checked_mul(den).ok_or_else(invalid)?;
        Self::new(num, Duration::from_millis(window_ms))
    }
}

/// The maximum number of periods for the fraction of a count.
const MOST_PERIODS: u64 = 10;

/// The nearest quota with a whole count: in the next larger unit of time, or 1 in several periods.
fn whole(count: Ratio, period_ms: u64) -> Quota {
    let periods = if count.num() < count.den() {
        (count.den() + count.num() / 2) / count.num()
    } else {
        match period_ms {
            ms if ms.is_multiple_of(86_400_000) => 10,
            ms if ms.is_multiple_of(3_600_000) => 24,
            ms if ms.is_multiple_of(1_000) => 60,
            _ => 1_000,
        }
    };
    let units = count.times(2 * periods).div_ceil(2).clamp(1, MAX_CAPACITY);
    Quota { count: units, window_ms: period_ms.saturating_mul(periods) }
}

/// Reads `count / [number] unit`; the count is above 0.
pub(super) fn count_and_period(text: &str) -> Option<(Ratio, u64)> {
    let (count, period) = text.split_once('/')?;
    let (count, period_ms) = (decimal(count.trim())?, period_ms(period.trim())?);
    (count.num() > 0).then_some((count, period_ms))
}

/// Reads a number above 0 in plain decimal digits, without a sign, an exponent or infinity.
fn decimal(text: &str) -> Option<Ratio> {
    let plain = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !plain || whole.is_empty() || fraction.contains('.') || (text.contains('.') && fraction.is_empty()) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes());
    let num = digits.fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    Some(Ratio::reduced(num, 10_u128.pow(u32::try_from(fraction.len()).ok()?)))
}

/// Reads a number that consists of digits only.
#[cfg(feature = "middleware")]
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn period_ms(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number = if number.is_empty() { 1 } else { number.parse::<u64>().ok()? };
    let unit_ms = match unit.trim_start().to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).filter(|&ms| ms > 0)
}

impl fmt::Display for Quota {
    /// Writes the shortest text that parses as the same quota.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.count)?;
        write_period(f, self.window_ms, "")
    }
}

/// Writes a period in its largest unit; `one` stands for the number 1.
pub(super) fn write_period(f: &mut fmt::Formatter<'_>, ms: u64, one: &str) -> fmt::Result {
    let (unit, name) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")]
        .into_iter()
        .find(|(unit, _)| ms.is_multiple_of(*unit))
        .unwrap_or((1, "ms"));
    match ms / unit {
        1 => write!(f, "{one}{name}"),
        n => write!(f, "{n}{name}"),
    }
}

impl TryFrom<&str> for Quota {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl TryFrom<String> for Quota {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
super::serde_text!(Quota);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(count: u64, window_ms: u64) -> Quota {
        Quota { count, window_ms }
    }

    #[test]
    fn texts_are_parsed() {
        for (text, want) in [
            ("100/s", quota(100, 1_000)),
            ("100/min", quota(100, 60_000)),
            ("5000/h", quota(5_000, 3_600_000)),
            ("1 / day", quota(1, 86_400_000)),
            ("5/10s", quota(5, 10_000)),
            ("5/10 seconds", quota(5, 10_000)),
            ("0.5/s", quota(1, 2_000)),
            ("5.5/s", quota(11, 2_000)),
            ("2.50/min", quota(5, 120_000)),
            ("7/250ms", quota(7, 250)),
        ] {
            assert_eq!(text.parse::<Quota>(), Ok(want), "{text}");
        }
    }

    #[test]
    fn invalid_texts_are_errors_with_a_hint() {
        for text in [
            "",
            "/",
            "100",
            "/s",
            "100/",
            "-1/s",
            "0/s",
            "0.0/s",
            "1e3/s",
            "NaN/s",
            "inf/s",
            "1/0s",
            "1/fortnight",
            ".5/s",
            "5./s",
            "1.2.3/s",
            "1/s/s",
            "\u{661}/s",
            "1/1.5s",
            "99999999999999999999/s",
            "1/99999999999999999999s",
            "18446744073709551615/s",
            "0.0000000000000000001/d",
            "100/é",
        ] {
            let error = text.parse::<Quota>().unwrap_err();
            assert!(error.to_string().contains("write"), "{text}: {error}");
        }
        assert!("x".repeat(1_000_000).parse::<Quota>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn a_fraction_that_would_need_a_large_burst_is_refused_with_whole_counts() {
        for (text, instead) in [
            ("16.67/s", "1000/min"),
            ("99.99/s", "5999/min"),
            ("33.333333/s", "2000/min"),
            ("16.67/2s", "1000/2min"),
            ("16.67/min", "1000/h"),
            ("41.67/h", "1000/d"),
            ("2.567/d", "26/10d"),
            ("0.333/s", "1/3s"),
            ("0.03/min", "1/33min"),
            ("1.001/250ms", "1001/250s"),
            ("10.05/7ms", "10050/7s"),
        ] {
            let error = text.parse::<Quota>().unwrap_err();
            let expected = ConfigError::QuotaFraction { text: text.into(), instead: instead.into() };
            assert_eq!(error, expected, "{text}");
            assert!(error.to_string().contains(&format!("write \"{instead}\"")), "{error}");
            assert!(instead.parse::<Quota>().is_ok(), "the hint {instead} is not a valid quota");
        }
        // One unit is the smallest possible burst. For other counts, ten periods are the maximum.
        assert_eq!("0.01/s".parse::<Quota>(), Ok(quota(1, 100_000)));
        assert_eq!("2.1/s".parse::<Quota>(), Ok(quota(21, 10_000)));
        assert_eq!("16.50/s".parse::<Quota>(), Ok(quota(33, 2_000)));
        assert!("2.15/s".parse::<Quota>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_admits_more_at_once_than_ten_periods_of_its_rate(whole in 0_u32..1_000, fraction in "[0-9]{1,9}") {
            let text = format!("{whole}.{fraction}/s");
            let rate: f64 = format!("{whole}.{fraction}").parse().unwrap();
            match text.parse::<Quota>() {
                Ok(quota) => prop_assert!(quota.count() == 1 || quota.count() as f64 <= 10.0 * rate + 1e-6, "{quota}"),
                Err(ConfigError::QuotaFraction { instead, .. }) => {
                    let quota: Quota = instead.parse().unwrap();
                    let average = quota.count() as f64 / quota.window().as_secs_f64();
                    prop_assert!((average / rate - 1.0).abs() < 0.5, "{text}: {instead}");
                }
                Err(error) => prop_assert_eq!(rate, 0.0, "{}", error),
            }
        }

        #[test]
        fn every_quota_parses_from_its_text(count in 1..=MAX_CAPACITY, window_ms in 1..=u64::from(u32::MAX)) {
            let quota = quota(count, window_ms);
            prop_assert_eq!(quota.to_string().parse::<Quota>(), Ok(quota));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Quota>();
        }
    }
}

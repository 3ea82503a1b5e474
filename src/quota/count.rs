use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::MAX_CAPACITY;
use super::ratio::Ratio;
use crate::error::ConfigError;
use crate::quota::{RateLimit, WindowSizeSeconds};
use crate::time::millis;

/// A count of units in any window of a given length: the unit in which the layer is configured.
///
/// `"100/s"` is 100 in any second, `"5000/h"` 5000 in any hour; all of them may come at once. A fraction is
/// spread over a longer window: `"0.5/s"` is 1 in any 2 s, `"5.5/s"` 11 in any 2 s.
///
/// The text form is `count / [number] unit` with the units `ms`, `s`, `min`, `h` and `d`, or their names
/// (`sec`, `second`, `minute`, `hour`, `day` and the plurals).
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
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    count: u64,
    window_ms: u64,
}

impl Quota {
    /// A count of units, 1 to 2^39, in any window of the given length, at least 1 ms and in whole
    /// milliseconds (a fraction is rounded up).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] where the count or the window is out of range.
    pub fn new(count: u64, window: Duration) -> Result<Self, ConfigError> {
        let rounded = millis(window).saturating_add(u64::from(!window.subsec_nanos().is_multiple_of(1_000_000)));
        match count {
            _ if rounded == 0 => Err(ConfigError::ZeroWindow),
            0 => Err(ConfigError::CapacityBelowOne),
            _ if count > MAX_CAPACITY => Err(ConfigError::CapacityTooLarge),
            _ => Ok(Self { count, window_ms: rounded }),
        }
    }

    /// A rate over a window.
    ///
    /// # Errors
    ///
    /// [`ConfigError::CapacityBelowOne`] and [`ConfigError::CapacityTooLarge`].
    pub fn from_rate(rate: &RateLimit, window: WindowSizeSeconds) -> Result<Self, ConfigError> {
        Self::new(rate.capacity(window)?, Duration::from_secs(window.get()))
    }

    /// The quota that admits nothing.
    #[must_use]
    pub const fn refuse_all() -> Self {
        Self { count: 0, window_ms: 1_000 }
    }

    /// A count per period as the layer's short constructors take it: 0 refuses everything, and what is
    /// above 2^39 counts as 2^39.
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
        let invalid = || ConfigError::InvalidQuota(text.chars().take(64).collect());
        let (count, period) = text.split_once('/').ok_or_else(invalid)?;
        let count = decimal(count.trim()).ok_or_else(invalid)?;
        let period_ms = period_ms(period.trim()).ok_or_else(invalid)?;
        // count / period with a whole count: num in (period x den).
        let (num, den) = (count.num(), count.den());
        if num == 0 {
            return Err(invalid());
        }
        let window_ms = period_ms.checked_mul(den).ok_or_else(invalid)?;
        Self::new(num, Duration::from_millis(window_ms))
    }
}

/// A number above 0 in plain decimal digits: no sign, no exponent, no infinity.
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

fn period_ms(text: &str) -> Option<u64> {
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
    /// Writes the shortest text that reads back as the same quota.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")]
            .into_iter()
            .find(|(unit, _)| self.window_ms.is_multiple_of(*unit))
            .unwrap_or((1, "ms"));
        match self.window_ms / unit {
            1 => write!(f, "{}/{name}", self.count),
            n => write!(f, "{}/{n}{name}", self.count),
        }
    }
}

impl TryFrom<String> for Quota {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
super::serde_as!(Quota, String, ToString::to_string);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(count: u64, window_ms: u64) -> Quota {
        Quota { count, window_ms }
    }

    #[test]
    fn texts_are_read() {
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
    fn nonsense_is_refused_with_a_hint() {
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

    proptest! {
        #[test]
        fn every_quota_reads_back(count in 1..=MAX_CAPACITY, window_ms in 1..=u64::from(u32::MAX)) {
            let quota = quota(count, window_ms);
            prop_assert_eq!(quota.to_string().parse::<Quota>(), Ok(quota));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Quota>();
        }
    }
}

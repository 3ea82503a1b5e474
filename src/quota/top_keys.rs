use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::count::{digits, period_ms, write_period};
use crate::error::{ConfigError, shortened};
use crate::time::millis_up;

/// How a limit tracks its busiest keys; see [`Limit::top_keys`](crate::Limit::top_keys).
///
/// The number of keys is 1 to 1000. The period is 1 second to 1 day, and 60 seconds by default. The text form is
/// `100 ids` or `100 names every 5min`, with the units of a [`Quota`](crate::Quota).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::TopKeys;
///
/// assert_eq!(TopKeys::ids(100), "100 ids".parse()?);
/// assert_eq!(TopKeys::names(20).every(Duration::from_secs(300)).to_string(), "20 names every 5min");
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "add it to a limit with `Limit::top_keys`"]
pub struct TopKeys {
    size: usize,
    keeps_names: bool,
    period_ms: u64,
}

/// The default period.
const MINUTE: u64 = 60_000;
/// The most keys of a ranking. The trackers count them in 16 bits.
const MOST: usize = 1_000;

impl TopKeys {
    /// Tracks this number of keys by ids that reveal nothing about a key.
    pub const fn ids(size: usize) -> Self {
        Self { size, keeps_names: false, period_ms: MINUTE }
    }

    /// Tracks this number of keys with their names: the text, number or address of the key itself.
    ///
    /// Names may be personal data. While the limit has requests, a name stays in the memory of the process for at most
    /// two periods after the last request of its key.
    pub const fn names(size: usize) -> Self {
        Self { size, keeps_names: true, period_ms: MINUTE }
    }

    /// Sets the period. A report covers one to two periods.
    pub fn every(mut self, period: Duration) -> Self {
        self.period_ms = millis_up(period);
        self
    }

    pub(crate) fn size(self) -> usize {
        self.size
    }

    pub(crate) fn keeps_names(self) -> bool {
        self.keeps_names
    }

    pub(crate) fn period_ms(self) -> u64 {
        self.period_ms
    }

    /// The same value if its number and its period are valid.
    pub(crate) fn checked(self) -> Result<Self, ConfigError> {
        match (self.size, self.period_ms) {
            (1..=MOST, 1_000..=86_400_000) => Ok(self),
            _ => Err(ConfigError::InvalidTopKeys(self.to_string())),
        }
    }
}

impl FromStr for TopKeys {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::InvalidTopKeys(shortened(text));
        let (what, period) = match text.split_once(" every ") {
            Some((what, period)) => (what, period_ms(period.trim()).ok_or_else(invalid)?),
            None => (text, MINUTE),
        };
        let (size, kind) = what.trim().split_once(' ').ok_or_else(invalid)?;
        let size = digits(size).ok_or_else(invalid)?;
        let keys = match kind.trim() {
            "ids" => Self::ids(size),
            "names" => Self::names(size),
            _ => return Err(invalid()),
        };
        Self { period_ms: period, ..keys }.checked().map_err(|_| invalid())
    }
}

impl fmt::Display for TopKeys {
    /// Writes the shortest text that parses as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.size, if self.keeps_names { "names" } else { "ids" })?;
        if self.period_ms != MINUTE {
            f.write_str(" every ")?;
            write_period(f, self.period_ms, "1")?;
        }
        Ok(())
    }
}

impl TryFrom<&str> for TopKeys {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
super::serde_text!(TopKeys);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_texts_and_values_are_errors_with_a_hint() {
        let long = "9".repeat(10_000);
        for text in [
            "",
            "100",
            "ids",
            "0 ids",
            "1001 ids",
            "-1 ids",
            "+1 ids",
            "1.5 ids",
            "100 keys",
            "100 ids every",
            "100 ids every 0s",
            "100 ids every 999ms",
            "100 ids every 2d",
            "100ids",
            &long,
        ] {
            let error = text.parse::<TopKeys>().unwrap_err();
            assert!(matches!(error, ConfigError::InvalidTopKeys(_)), "{text}");
            assert!(error.to_string().contains("write") && error.to_string().len() < 300, "{error}");
        }
        let ids = TopKeys::ids(1);
        for keys in [TopKeys::ids(0), TopKeys::names(1_001), ids.every(Duration::ZERO), ids.every(Duration::MAX)] {
            assert!(keys.checked().is_err(), "{keys}");
        }
        assert_eq!(" 5   names  every 60s".parse(), Ok(TopKeys::names(5)));
    }

    proptest! {
        #[test]
        fn every_value_parses_from_its_text(size in 1..=MOST, names in any::<bool>(), ms in 1_000_u64..=86_400_000) {
            let keys = if names { TopKeys::names(size) } else { TopKeys::ids(size) }.every(Duration::from_millis(ms));
            prop_assert_eq!(keys.to_string().parse::<TopKeys>(), Ok(keys));
        }
    }
}

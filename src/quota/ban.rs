use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::count::{Quota, digits, period_ms, write_period};
use crate::error::{ConfigError, shortened};
use crate::time::millis_up;

/// Refuses a key for a time, after many refusals within a window; see [`Limit::ban`](crate::Limit::ban).
///
/// The text form is `count in period for period`, with the units of a [`Quota`]. A ban that only your program begins is
/// `manual for period`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::Ban;
///
/// let ban = Ban::after(20).within(Duration::from_secs(3_600)).lasting(Duration::from_secs(86_400));
/// assert_eq!(ban, "20 in 1h for 1d".parse()?);
/// assert_eq!(Ban::manual().lasting(Duration::from_secs(600)).to_string(), "manual for 10min");
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "add it to a limit with `Limit::ban`"]
pub struct Ban {
    /// The number of refusals and their window in milliseconds; `None` for a manual ban.
    strikes: Option<(u64, u64)>,
    lasting_ms: u64,
}

/// The default window and time: 10 minutes, as in fail2ban.
const TEN_MINUTES: u64 = 600_000;

impl Ban {
    /// Bans a key after so many refusals, at least 1. The default is within 10 minutes, for 10 minutes.
    pub const fn after(refusals: u64) -> Self {
        Self { strikes: Some((refusals, TEN_MINUTES)), lasting_ms: TEN_MINUTES }
    }

    /// Bans a key only if the program does so, through [`KeyControl::block`](crate::layer::KeyControl::block) or
    /// [`RateLimitHandle::block`](crate::layer::RateLimitHandle::block).
    pub const fn manual() -> Self {
        Self { strikes: None, lasting_ms: TEN_MINUTES }
    }

    /// Sets the window in which the refusals count. A manual ban counts none.
    pub fn within(mut self, window: Duration) -> Self {
        if let Some((_, window_ms)) = &mut self.strikes {
            *window_ms = millis_up(window);
        }
        self
    }

    /// Sets how long a ban lasts. A manual ban lasts at most so long.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting_ms = millis_up(time);
        self
    }

    /// The refusals that begin a ban, as a quota; `None` for a manual ban.
    pub(crate) fn strikes(&self) -> Result<Option<Quota>, ConfigError> {
        let quota = |(count, window_ms)| Quota::new(count, Duration::from_millis(window_ms));
        self.strikes.map(quota).transpose().map_err(|_| self.invalid())
    }

    /// The requests of a banned key, as a quota: none within the time of a ban.
    pub(crate) fn refusing(&self) -> Result<Quota, ConfigError> {
        match self.lasting_ms {
            0 => Err(self.invalid()),
            ms => Ok(Quota::clamped(0, ms)),
        }
    }

    fn invalid(&self) -> ConfigError {
        ConfigError::InvalidBan(self.to_string())
    }
}

impl FromStr for Ban {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::InvalidBan(shortened(text));
        let (when, time) = text.trim().split_once(" for ").ok_or_else(invalid)?;
        let lasting_ms = period_ms(time.trim()).ok_or_else(invalid)?;
        let strikes = match when.trim() {
            "manual" => None,
            when => {
                let (count, window) = when.split_once(" in ").ok_or_else(invalid)?;
                let count = digits(count.trim()).ok_or_else(invalid)?;
                Some((count, period_ms(window.trim()).ok_or_else(invalid)?))
            }
        };
        let ban = Self { strikes, lasting_ms };
        ban.strikes().and(ban.refusing()).map_err(|_| invalid())?;
        Ok(ban)
    }
}

impl fmt::Display for Ban {
    /// Writes the shortest text that parses as the same ban.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.strikes {
            None => f.write_str("manual")?,
            Some((count, window_ms)) => {
                write!(f, "{count} in ")?;
                write_period(f, window_ms, "1")?;
            }
        }
        f.write_str(" for ")?;
        write_period(f, self.lasting_ms, "1")
    }
}

impl TryFrom<&str> for Ban {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl TryFrom<String> for Ban {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
super::serde_as!(Ban, String, ToString::to_string);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quota::MAX_CAPACITY;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn texts_are_parsed() {
        for (text, want) in [
            ("20 in 1h for 1d", Ban::after(20).within(HOUR).lasting(24 * HOUR)),
            (" 5  in 10 minutes  for 600s ", Ban::after(5)),
            ("1 in h for 250ms", Ban::after(1).within(HOUR).lasting(Duration::from_millis(250))),
            ("manual for 1h", Ban::manual().within(HOUR).lasting(HOUR)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn invalid_bans_are_errors_with_a_hint() {
        let long = "9".repeat(10_000);
        for text in [
            "",
            "20",
            "20 in 1h",
            "20 for 1h",
            "in 1h for 1d",
            "0 in 1h for 1d",
            "-1 in 1h for 1d",
            "+1 in 1h for 1d",
            "1.5 in 1h for 1d",
            "20 in 0s for 1d",
            "20 in 1h for 0s",
            "20 in 1h for ever",
            "manual",
            "20in1hfor1d",
            "\u{661} in 1h for 1d",
            &long,
            "549755813889 in 1h for 1d",
        ] {
            let error = text.parse::<Ban>().unwrap_err();
            assert!(matches!(error, ConfigError::InvalidBan(_)), "{text}");
            assert!(error.to_string().contains("write") && error.to_string().len() < 300, "{error}");
        }
        let zero = Duration::ZERO;
        for ban in [Ban::after(0), Ban::after(u64::MAX), Ban::after(1).within(zero), Ban::after(1).lasting(zero)] {
            assert!(ban.strikes().and(ban.refusing()).is_err(), "{ban}");
        }
        let longest = Ban::after(1).within(Duration::MAX).lasting(Duration::MAX);
        assert!(longest.strikes().is_ok() && longest.refusing().is_ok());
    }

    proptest! {
        #[test]
        fn every_ban_parses_from_its_text(count in 1..=MAX_CAPACITY, window in 1_u64..1 << 40, time in 1_u64..1 << 40) {
            let times = [window, time].map(Duration::from_millis);
            for ban in [Ban::after(count).within(times[0]), Ban::manual()] {
                let ban = ban.lasting(times[1]);
                prop_assert_eq!(ban.to_string().parse::<Ban>(), Ok(ban));
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z .]{0,20}( in )?[0-9a-z]{0,4}( for )?\\PC{0,10}") {
            let _ = text.parse::<Ban>();
        }
    }
}

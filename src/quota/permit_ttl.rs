use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::count::{period_ms, write_period};
use crate::error::{ConfigError, shortened};
use crate::time::millis_up;

/// For how long a permit of a process that ended still counts in Redis; see
/// [`Limit::permit_ttl`](crate::Limit::permit_ttl).
///
/// It is 1 second to 1 day, and 60 seconds by default. The text form has the units of a [`Quota`](crate::Quota).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_weir::PermitTtl;
///
/// assert_eq!(PermitTtl::try_from(Duration::from_secs(30))?, "30s".parse()?);
/// assert!("30ms".parse::<PermitTtl>().is_err());
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PermitTtl(u64);

impl PermitTtl {
    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn of_ms(ms: u64, text: impl FnOnce() -> String) -> Result<Self, ConfigError> {
        match ms {
            1_000..=86_400_000 => Ok(Self(ms)),
            _ => Err(ConfigError::InvalidPermitTtl(text())),
        }
    }
}

impl Default for PermitTtl {
    fn default() -> Self {
        Self(60_000)
    }
}

impl TryFrom<Duration> for PermitTtl {
    type Error = ConfigError;

    fn try_from(ttl: Duration) -> Result<Self, ConfigError> {
        Self::of_ms(millis_up(ttl), || format!("{ttl:?}"))
    }
}

impl FromStr for PermitTtl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::of_ms(period_ms(text.trim()).unwrap_or(0), || shortened(text))
    }
}

impl fmt::Display for PermitTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_period(f, self.0, "1")
    }
}

#[cfg(feature = "serde")]
super::serde_text!(PermitTtl);

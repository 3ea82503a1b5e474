//! The meter of a limit as text, for policies.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::at_limit::AtLimit;
use crate::error::{ConfigError, shortened};
use crate::key::CODE;
use crate::policy::words;

/// The unit of a meter that needs no function; see [`LimitConfig::meter`](crate::layer::LimitConfig::meter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeterUnit {
    /// `bytes`: each byte of a response's body is a unit.
    Bytes,
}

words!(MeterUnit: "bytes" => Bytes);

const END_STREAM: &str = "end-stream";
const SLOW: &str = "slow";
const END_WITH: &str = "end with ";
const FINISH: &str = "finish within ";

impl fmt::Display for AtLimit {
    /// Writes a text that parses as an equal value, unless data is not UTF-8.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndStream => f.write_str(END_STREAM),
            Self::Slow => f.write_str(SLOW),
            Self::Finish { at_most } => write!(f, "{FINISH}{at_most}"),
            Self::EndWith(data) => match std::str::from_utf8(data) {
                Ok(text) => write!(f, "{END_WITH}{text}"),
                Err(_) => f.write_str(CODE),
            },
        }
    }
}

impl FromStr for AtLimit {
    type Err = ConfigError;

    /// Reads `end-stream`, `slow`, `finish within 500`, or `end with ` and the data.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::UnknownWord`] for any other text.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let most = |units: &str| units.parse().ok().map(|at_most| Self::Finish { at_most });
        let found = match text {
            END_STREAM => Some(Self::EndStream),
            SLOW => Some(Self::Slow),
            _ => match (text.strip_prefix(END_WITH), text.strip_prefix(FINISH)) {
                (Some(data), _) => Some(Self::EndWith(Bytes::copy_from_slice(data.as_bytes()))),
                (None, Some(units)) => most(units),
                (None, None) => None,
            },
        };
        let known = &[END_STREAM, SLOW, "finish within 500", "end with \"data\""];
        found.ok_or_else(|| ConfigError::UnknownWord { text: shortened(text), known })
    }
}

#[cfg(feature = "serde")]
crate::quota::serde_text!(AtLimit);

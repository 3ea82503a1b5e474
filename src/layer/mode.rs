//! Whether a limit refuses requests.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{ConfigError, shortened};

/// What a limit does with a request that has no room.
///
/// The text forms are `enforce`, `shadow`, `enforce for 5%` and `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum LimitMode {
    /// The limit refuses it.
    #[default]
    Enforce,
    /// The limit decides and counts, and the request is admitted. Clients do not learn of the limit.
    ///
    /// Its usage is what it would be if it refused: a request without room is not charged to it.
    Shadow,
    /// The limit refuses it for this part of the keys, from 0 to 100 percent, and is in shadow for the others.
    ///
    /// A key is always in the same part, on every instance, and stays enforced while the percentage grows. The precision
    /// is a hundredth of a percent.
    EnforceFor(f64),
    /// The limit does not exist: it counts nothing.
    Off,
}

/// A mode that can change while requests are decided.
#[derive(Debug)]
pub(super) struct ModeCell(AtomicU32);

/// The hundredths of a percent that are the whole.
const WHOLE: u32 = 10_000;
const OFF: u32 = u32::MAX;

impl LimitMode {
    /// The enforced part of the keys in hundredths of a percent, or `OFF`. A percentage that is not a number enforces.
    fn encoded(self) -> u32 {
        match self {
            Self::Enforce => WHOLE,
            Self::Shadow => 0,
            Self::EnforceFor(percent) if percent.is_nan() => WHOLE,
            Self::EnforceFor(percent) => (percent.clamp(0.0, 100.0) * 100.0).round() as u32,
            Self::Off => OFF,
        }
    }

    /// Whether the value is a mode: a percentage from 0 to 100.
    pub(super) fn is_valid(self) -> bool {
        !matches!(self, Self::EnforceFor(percent) if !(0.0..=100.0).contains(&percent))
    }
}

impl fmt::Display for LimitMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforce => f.write_str("enforce"),
            Self::Shadow => f.write_str("shadow"),
            Self::EnforceFor(percent) => write!(f, "enforce for {percent}%"),
            Self::Off => f.write_str("off"),
        }
    }
}

impl FromStr for LimitMode {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let unknown = || ConfigError::UnknownWord {
            text: shortened(text),
            known: &["enforce", "shadow", "enforce for 5%", "off"],
        };
        Ok(match text {
            "enforce" => Self::Enforce,
            "shadow" => Self::Shadow,
            "off" => Self::Off,
            _ => {
                let percent = text.strip_prefix("enforce for ").and_then(|part| part.trim().strip_suffix('%'));
                let percent = percent.and_then(|part| part.trim().parse().ok()).ok_or_else(unknown)?;
                let mode = Self::EnforceFor(percent);
                if mode.is_valid() { mode } else { return Err(ConfigError::InvalidPercentage(percent)) }
            }
        })
    }
}

#[cfg(feature = "serde")]
crate::quota::serde_text!(LimitMode);

impl ModeCell {
    pub(super) fn new(mode: LimitMode) -> Self {
        Self(AtomicU32::new(mode.encoded()))
    }

    pub(super) fn set(&self, mode: LimitMode) {
        self.0.store(mode.encoded(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> LimitMode {
        match self.0.load(Ordering::Relaxed) {
            WHOLE => LimitMode::Enforce,
            0 => LimitMode::Shadow,
            OFF => LimitMode::Off,
            part => LimitMode::EnforceFor(f64::from(part) / 100.0),
        }
    }

    /// Whether every key is enforced.
    #[inline]
    pub(super) fn is_enforce(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WHOLE
    }

    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OFF
    }

    /// Whether the limit refuses requests with this key.
    #[inline]
    pub(super) fn enforces(&self, name: &str, key: &[u8]) -> bool {
        match self.0.load(Ordering::Relaxed) {
            WHOLE => true,
            0 | OFF => false,
            part => place(name, key) < part,
        }
    }
}

/// The place of a key from 0 to 9999, which is the same on every instance.
///
/// FNV-1a with the finalizer of MurmurHash3. A client that chooses its key can choose its place, as long as the limit is
/// not enforced for all.
fn place(name: &str, key: &[u8]) -> u32 {
    let bytes = name.bytes().chain([0]).chain(key.iter().copied());
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ (hash >> 33)) % u64::from(WHOLE)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_back() {
        let cell = ModeCell::new(LimitMode::Enforce);
        for mode in [LimitMode::Shadow, LimitMode::Off, LimitMode::EnforceFor(0.01), LimitMode::EnforceFor(12.5)] {
            cell.set(mode);
            assert_eq!(cell.get(), mode);
        }
        cell.set(LimitMode::EnforceFor(100.0));
        assert_eq!(cell.get(), LimitMode::Enforce);
        for odd in [f64::NAN, -1.0, 100.1, f64::INFINITY] {
            assert!(!LimitMode::EnforceFor(odd).is_valid());
        }
        assert!(LimitMode::EnforceFor(0.0).is_valid() && LimitMode::EnforceFor(100.0).is_valid());
    }

    #[test]
    fn a_mode_has_a_text() {
        for (mode, text) in [
            (LimitMode::Enforce, "enforce"),
            (LimitMode::Shadow, "shadow"),
            (LimitMode::EnforceFor(12.5), "enforce for 12.5%"),
            (LimitMode::EnforceFor(0.0), "enforce for 0%"),
            (LimitMode::Off, "off"),
        ] {
            assert_eq!((mode.to_string(), text.parse()), (text.to_owned(), Ok(mode)));
        }
        assert_eq!("enforce for  5 %".parse(), Ok(LimitMode::EnforceFor(5.0)));
        for text in ["", "on", "Enforce", "enforce for", "enforce for 5", "enforce for all%"] {
            let error = text.parse::<LimitMode>().unwrap_err().to_string();
            assert!(error.contains("write one of enforce, shadow, enforce for 5%, off"), "{error}");
        }
        for text in ["enforce for 101%", "enforce for -1%", "enforce for NaN%"] {
            assert!(matches!(text.parse::<LimitMode>(), Err(ConfigError::InvalidPercentage(_))), "{text}");
        }
    }

    /// The part grows: no key that is enforced at a percentage is free at a higher one.
    #[test]
    fn the_enforced_part_of_the_keys_is_the_percentage_and_only_grows() {
        let keys: Vec<[u8; 4]> = (0..100_000_u32).map(u32::to_be_bytes).collect();
        let enforced = |percent| -> Vec<bool> {
            let cell = ModeCell::new(LimitMode::EnforceFor(percent));
            keys.iter().map(|key| cell.enforces("client", key)).collect()
        };
        let mut before = vec![false; keys.len()];
        for percent in [0.0, 0.5, 5.0, 50.0, 99.0, 100.0] {
            let now = enforced(percent);
            let part = 100.0 * now.iter().filter(|it| **it).count() as f64 / keys.len() as f64;
            assert!((part - percent).abs() < 0.5, "{percent} % became {part} %");
            assert!(before.iter().zip(&now).all(|(before, now)| !before || *now));
            before = now;
        }
    }
}

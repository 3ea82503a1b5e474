//! The values a limit is made of, each valid by construction.
//!
//! A bare [`RateLimit`] is read over the limiter's window; a [`Quota`] is a count with a window of its own.

mod count;
mod rate;
mod ratio;
mod values;

pub use count::Quota;
pub use rate::RateLimit;
pub use values::{HardLimitFactor, RateGroupSizeMs, SyncIntervalMs, Tolerance, WindowSizeSeconds};

/// The largest number of units that a window may hold: 2^39.
pub(crate) const MAX_CAPACITY: u64 = 1 << 39;

/// The most quotas that one limit may have.
pub(crate) const MAX_QUOTAS: usize = 8;

/// Serde through the same checks as every other way to make the value.
#[cfg(feature = "serde")]
macro_rules! serde_as {
    ($type:ty, $plain:ty, $get:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let get: fn(&$type) -> $plain = $get;
                serde::Serialize::serialize(&get(self), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let plain = <$plain as serde::Deserialize>::deserialize(deserializer)?;
                Self::try_from(plain).map_err(serde::de::Error::custom)
            }
        }
    };
}
#[cfg(feature = "serde")]
pub(crate) use serde_as;

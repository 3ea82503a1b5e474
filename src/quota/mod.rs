//! The values that define a limit, each valid by construction.
//!
//! A bare [`RateLimit`] applies to the limiter's window. A [`Quota`] is a count with its own window.

#[cfg(feature = "serde")]
mod as_text;
#[cfg(feature = "middleware")]
mod ban;
mod count;
#[cfg(feature = "middleware")]
mod permit_ttl;
mod quotas;
mod rate;
mod ratio;
#[cfg(feature = "middleware")]
mod top_keys;
mod values;

#[cfg(feature = "middleware")]
pub use ban::Ban;
pub use count::Quota;
#[cfg(feature = "middleware")]
pub(crate) use count::digits;
#[cfg(feature = "middleware")]
pub use permit_ttl::PermitTtl;
pub use quotas::Quotas;
pub use rate::RateLimit;
#[cfg(feature = "middleware")]
pub use top_keys::TopKeys;
pub use values::{HardLimitFactor, RateGroupSizeMs, SyncIntervalMs, Tolerance, WindowSizeSeconds};

/// The maximum number of units in a window: 2^39.
pub(crate) const MAX_CAPACITY: u64 = 1 << 39;

/// The maximum number of quotas of one limit.
pub(crate) const MAX_QUOTAS: usize = 8;

/// Implements serde through the same checks as the other constructors.
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
pub(crate) use as_text::{FromText, serde_text};
#[cfg(feature = "serde")]
pub(crate) use serde_as;

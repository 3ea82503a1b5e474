//! What holds for all keys of one hybrid store.

use super::lease::min_elapsed;
use crate::geometry::WindowGeometry;

/// What holds for all keys of one store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreParams {
    /// Of this instance's clock, with its lag.
    pub(crate) geometry: WindowGeometry,
    /// Of the server's clock.
    pub(crate) server: WindowGeometry,
    pub(crate) lag_ms: u64,
    /// How often a key that is in use is synced at least.
    pub(crate) interval_ms: u64,
    /// How long a question may be under way.
    pub(crate) deadline_ms: u64,
}

/// The least age, by the server's clock, of something that happened before an instant.
pub(crate) fn min_age_ms(before: u64, now: u64, params: &StoreParams) -> u32 {
    u32::try_from(min_elapsed(now.saturating_sub(before).saturating_sub(params.lag_ms))).unwrap_or(u32::MAX)
}

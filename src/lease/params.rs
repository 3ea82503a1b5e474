//! The parameters that all keys of one hybrid store share.

use super::lease::min_elapsed;
use super::names::NameSource;
use crate::engine::Retention;
use crate::geometry::WindowGeometry;

/// The parameters that all keys of one store share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreParams {
    /// The geometry for this instance's clock, with its lag.
    pub(crate) geometry: WindowGeometry,
    /// The geometry for the server's clock.
    pub(crate) server: WindowGeometry,
    pub(crate) lag_ms: u64,
    /// The longest time between two syncs of a key in use.
    pub(crate) interval_ms: u64,
    /// How long a call may take.
    pub(crate) deadline_ms: u64,
}

/// What the state of a key borrows from its store.
#[derive(Clone, Copy)]
pub(crate) struct StoreContext<'a> {
    /// The source of names for leases and reports.
    pub(crate) names: &'a NameSource,
    /// How long this instance keeps what it has admitted, by its own clock.
    pub(crate) retention: &'a Retention,
    pub(crate) params: &'a StoreParams,
}

/// The least age, by the server's clock, of an event before an instant.
pub(crate) fn min_age_ms(before: u64, now: u64, params: &StoreParams) -> u32 {
    u32::try_from(min_elapsed(now.saturating_sub(before).saturating_sub(params.lag_ms))).unwrap_or(u32::MAX)
}

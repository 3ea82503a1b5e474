//! Measures nothing, without the feature `metrics`.

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct RedisWatch;

/// See the module documentation.
pub(crate) struct Timer;

impl RedisWatch {
    #[inline(always)]
    pub(crate) fn time(&self) -> Timer {
        Timer
    }

    pub(crate) fn breaker_opened(&self) {}

    pub(crate) fn breaker_closed(&self) {}
}

/// Counts no failure.
pub(crate) fn count_failure(_: &'static str) {}

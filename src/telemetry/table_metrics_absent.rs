//! Counts nothing, without the feature `metrics`.

/// See the module documentation.
#[derive(Debug)]
pub(super) struct TableMetrics;

impl TableMetrics {
    pub(super) fn new(_: &'static str, _: Option<&str>) -> Self {
        Self
    }

    #[inline(always)]
    pub(super) fn key_added(&self) {}

    #[inline(always)]
    pub(super) fn keys_removed(&self, _: u64, _: bool) {}

    #[inline(always)]
    pub(super) fn overflowed(&self) {}

    pub(super) fn overflow_began(&self) {}

    pub(super) fn overflow_ended(&self) {}
}

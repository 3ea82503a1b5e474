//! Reports the keys of one limit: how many there are, and when they have no room.

use super::table_metrics::TableMetrics;
use super::table_trace::TableTrace;

/// The keys of a limit in the memory of this process.
#[derive(Debug)]
pub(crate) struct TableWatch {
    metrics: TableMetrics,
    trace: TableTrace,
}

impl TableWatch {
    /// `store` is the kind of the store. The engine's own calls have no policy.
    pub(crate) fn new(store: &'static str, policy: Option<&str>) -> Self {
        Self { metrics: TableMetrics::new(store, policy), trace: TableTrace::new(policy) }
    }

    /// A new key has a window of its own.
    #[inline]
    pub(crate) fn key_added(&self) {
        self.metrics.key_added();
    }

    /// Keys left, because they were idle or because a call removed them.
    #[inline]
    pub(crate) fn keys_removed(&self, keys: usize, are_idle: bool) {
        self.metrics.keys_removed(keys as u64, are_idle);
    }

    /// A key without a window of its own was decided by a shared one.
    #[inline]
    pub(crate) fn overflowed(&self) {
        self.metrics.overflowed();
    }

    /// New keys share windows from now on.
    #[cold]
    pub(crate) fn overflow_began(&self) {
        self.metrics.overflow_began();
        self.trace.overflow_began();
    }

    /// The shared windows are idle.
    #[cold]
    pub(crate) fn overflow_ended(&self) {
        self.metrics.overflow_ended();
        self.trace.overflow_ended();
    }
}

//! Counts the keys of one limit through the `metrics` facade.

use std::sync::OnceLock;

use metrics::Counter;

use super::handles::{Described, Labels, SharedGauge};

const KEYS: Described = ("rate_limit.keys", "Keys with a history in the memory of this process.");
const RECLAIMED: Described = ("rate_limit.keys.reclaimed", "Idle keys whose memory was freed.");
const OVERFLOW: Described =
    ("rate_limit.overflow.decisions", "Decisions on keys that share a budget, because no room is left.");
const OVERFLOWING: Described = ("rate_limit.overflow.active", "Limits whose new keys share budgets.");

/// See the module documentation.
#[derive(Debug)]
pub(super) struct TableMetrics {
    labels: Labels,
    keys: SharedGauge,
    reclaimed: OnceLock<Counter>,
    overflow: OnceLock<Counter>,
    overflowing: SharedGauge,
}

impl TableMetrics {
    pub(super) fn new(store: &'static str, policy: Option<&str>) -> Self {
        Self {
            labels: Labels::new(store, policy),
            keys: SharedGauge::default(),
            reclaimed: OnceLock::new(),
            overflow: OnceLock::new(),
            overflowing: SharedGauge::default(),
        }
    }

    pub(super) fn key_added(&self) {
        self.keys.add(1, || self.labels.gauge(KEYS));
    }

    pub(super) fn keys_removed(&self, keys: u64, are_idle: bool) {
        self.keys.subtract(keys);
        if are_idle {
            self.reclaimed.get_or_init(|| self.labels.counter(RECLAIMED)).increment(keys);
        }
    }

    pub(super) fn overflowed(&self) {
        self.overflow.get_or_init(|| self.labels.counter(OVERFLOW)).increment(1);
    }

    pub(super) fn overflow_began(&self) {
        self.overflowing.add(1, || self.labels.gauge(OVERFLOWING));
    }

    pub(super) fn overflow_ended(&self) {
        self.overflowing.subtract(1);
    }
}

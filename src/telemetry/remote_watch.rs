//! Counts what a store with Redis does for one limit, through the `metrics` facade.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Label, Unit, counter, describe_counter};

use super::handles::{Described, Labels, SharedGauge, policy};

const DEGRADED: Described =
    ("rate_limit.degraded.decisions", "Decisions by this instance's share, because Redis could not decide.");
const LEASES: Described = ("rate_limit.leases", "Leases that this instance holds.");
const SYNCS: Described = ("rate_limit.syncs", "Syncs of keys with Redis, by result.");

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct RemoteWatch {
    labels: Labels,
    policy: Option<Arc<str>>,
    degraded: OnceLock<Counter>,
    leases: SharedGauge,
    syncs: [OnceLock<Counter>; 2],
}

impl RemoteWatch {
    /// `store` is the kind of the store. The engine's own calls have no policy.
    pub(crate) fn new(store: &'static str, policy: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            labels: Labels::new(store, policy),
            policy: policy.map(Arc::from),
            degraded: OnceLock::new(),
            leases: SharedGauge::default(),
            syncs: [OnceLock::new(), OnceLock::new()],
        })
    }

    /// This instance's share decided.
    pub(crate) fn degraded(&self) {
        self.degraded.get_or_init(|| self.labels.counter(DEGRADED)).increment(1);
    }

    /// A key had a lease before a step, and has one after it.
    #[inline]
    pub(crate) fn lease(&self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.leases.add(1, || self.labels.gauge(LEASES)),
            (true, false) => self.leases.subtract(1),
            _ => {}
        }
    }

    /// A sync ended.
    pub(crate) fn synced(&self, is_done: bool) {
        let register = || {
            describe_counter!(SYNCS.0, Unit::Count, SYNCS.1);
            let mut labels = policy(self.policy.as_ref());
            labels.push(Label::from_static_parts("rate_limit.sync", if is_done { "completed" } else { "abandoned" }));
            counter!(SYNCS.0, labels)
        };
        self.syncs[usize::from(is_done)].get_or_init(register).increment(1);
    }
}

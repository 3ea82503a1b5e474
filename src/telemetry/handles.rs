//! Handles of the `metrics` facade.
//!
//! A handle is registered when it is first used, and then kept. So a recorder that the program installs after it built
//! its layers still receives the values, and no request looks a handle up.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, gauge};

/// A metric: its name and its description.
pub(super) type Described = (&'static str, &'static str);

/// The labels of a store's limit. The engine's own calls have no policy.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    store: &'static str,
    policy: Option<Arc<str>>,
}

impl Labels {
    pub(super) fn new(store: &'static str, policy: Option<&str>) -> Self {
        Self { store, policy: policy.map(Arc::from) }
    }

    fn list(&self) -> Vec<Label> {
        let mut labels = policy(self.policy.as_ref());
        labels.push(Label::from_static_parts("rate_limit.store", self.store));
        labels
    }

    pub(super) fn counter(&self, (name, about): Described) -> Counter {
        describe_counter!(name, Unit::Count, about);
        counter!(name, self.list())
    }

    pub(super) fn gauge(&self, (name, about): Described) -> Gauge {
        describe_gauge!(name, Unit::Count, about);
        gauge!(name, self.list())
    }
}

/// The label of a limit, if it has a name.
pub(super) fn policy(policy: Option<&Arc<str>>) -> Vec<Label> {
    policy.map(|policy| Label::new("rate_limit.policy", Arc::clone(policy))).into_iter().collect()
}

/// A gauge that its owner's values leave when the owner is dropped. Owners with equal labels add up.
#[derive(Default)]
pub(super) struct SharedGauge {
    gauge: OnceLock<Gauge>,
    /// What this owner has added.
    added: AtomicU64,
}

impl SharedGauge {
    pub(super) fn add(&self, count: u64, register: impl FnOnce() -> Gauge) {
        self.added.fetch_add(count, Ordering::Relaxed);
        self.gauge.get_or_init(register).increment(count as f64);
    }

    pub(super) fn subtract(&self, count: u64) {
        self.added.fetch_sub(count, Ordering::Relaxed);
        if let Some(gauge) = self.gauge.get() {
            gauge.decrement(count as f64);
        }
    }
}

impl Drop for SharedGauge {
    fn drop(&mut self) {
        match *self.added.get_mut() {
            0 => {}
            rest => self.subtract(rest),
        }
    }
}

impl fmt::Debug for SharedGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedGauge").field(&self.added).finish()
    }
}

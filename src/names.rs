//! What a store keeps by the names of limits.
//!
//! It stays when a layer goes, so that one that is built anew finds its history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::ConfigError;
use crate::store::Policy;
use crate::telemetry::{self, Notice};

/// One `T` for each name.
pub(crate) struct Names<T>(Mutex<HashMap<Arc<str>, Named<T>>>);

/// What is kept for a name, and the policy that was opened last under it.
struct Named<T> {
    kept: Arc<T>,
    last: Weak<Policy>,
}

impl<T> Names<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// What is kept for a policy's name, and the policy, to be held for as long as it is in use.
    ///
    /// `accept` may refuse; then a new name is not kept. A policy that was hardly meant to share its budgets with
    /// another one that is in use is told of.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        new: impl FnOnce() -> T,
        accept: impl FnOnce(&T) -> Result<(), ConfigError>,
    ) -> Result<(Arc<T>, Arc<Policy>), ConfigError> {
        let mut names = self.names();
        let known = names.get(policy.name());
        let kept = known.map_or_else(|| Arc::new(new()), |known| Arc::clone(&known.kept));
        accept(&kept)?;
        let other = known.and_then(|known| known.last.upgrade());
        let opened = Arc::new(policy.clone());
        names.insert(policy.name().into(), Named { kept: Arc::clone(&kept), last: Arc::downgrade(&opened) });
        drop(names);
        if let Some(case) = other.and_then(|other| confusion(&other, policy)) {
            telemetry::notify(Notice::LimitOpenedTwice, Some(case));
        }
        Ok((kept, opened))
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.names().values().map(|named| Arc::clone(&named.kept)).collect()
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Arc<str>, Named<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes it unlikely that a policy and another in use were meant to share their keys.
fn confusion(other: &Policy, policy: &Policy) -> Option<&'static str> {
    if policy.quotas() != other.quotas() || policy.strategy() != other.strategy() {
        return Some("their quotas or strategies differ");
    }
    (policy.name() == Policy::UNNAMED).then_some("neither has a name, so both are called `default`")
}

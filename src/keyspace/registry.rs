//! The values that a store keeps by the names of limits.
//!
//! A value stays while a layer that was dropped may be built again and must find its history. That is until the windows
//! of its quotas have passed and its history is empty.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::engine::Limit;
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::{MAX_QUOTAS, Quota};
use crate::telemetry::{self, Notice};
use crate::time::TimeSource;

/// A value that a store keeps for a name.
pub(crate) trait Kept {
    /// Retains history for exactly these spans from now on.
    fn keep_history(&self, spans: &[u32]);

    /// Whether the value can be dropped without a loss, now that no policy uses it. `is_past` is true if the windows of
    /// all its policies have passed.
    fn may_go(&self, is_past: bool) -> bool;
}

/// One `T` for each name.
pub(crate) struct PolicyRegistry<T> {
    time: TimeSource,
    named: Mutex<Named<T>>,
}

struct Named<T> {
    by_name: HashMap<Arc<str>, Entry<T>>,
    /// The number of names at which the next search for unused ones starts.
    tidy_at: usize,
}

/// The value for a name, and its policies.
struct Entry<T> {
    kept: Arc<T>,
    open: Vec<Open>,
    past: Vec<Past>,
    /// The policy that was opened last.
    last: Weak<Policy>,
}

/// A policy, which is in use while a caller holds it, and the spans for which it needs history.
struct Open {
    policy: Weak<Policy>,
    spans: Box<[u32]>,
    longest_ms: u64,
}

/// A span that no policy uses any more, and until when its history is retained.
#[derive(Clone, Copy)]
struct Past {
    span: u32,
    until_ms: u64,
}

/// The value for a name, the opened policy, and the policy in use that was opened before it.
type Entered<T> = (Arc<T>, Arc<Policy>, Option<Arc<Policy>>);

/// The number of names below which no search for unused ones runs.
const FEW: usize = 64;

impl<T: Kept> PolicyRegistry<T> {
    pub(crate) fn new(time: TimeSource) -> Self {
        Self { time, named: Mutex::new(Named { by_name: HashMap::new(), tidy_at: FEW }) }
    }

    /// Returns the value for a policy's name, and the policy, which the caller must hold while it is in use.
    ///
    /// Logs a notice if the policy shares its budgets with another one in use, probably by mistake.
    ///
    /// # Errors
    ///
    /// Returns an error if the policies in use have more distinct windows than a history can retain.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        limits: &[Limit],
        new: impl FnOnce() -> T,
    ) -> Result<(Arc<T>, Arc<Policy>), ConfigError> {
        let (kept, opened, other) = self.enter(policy, limits, new)?;
        if let Some(case) = other.and_then(|other| confusion(&other, policy)) {
            telemetry::notify(Notice::SharedLimitName, Some(case));
        }
        Ok((kept, opened))
    }

    /// Like [`open`](Self::open), but logs no notice. Use it for a value that belongs to a policy of another store.
    #[cfg(feature = "_redis")]
    pub(crate) fn accompany(
        &self,
        policy: &Policy,
        limits: &[Limit],
        new: impl FnOnce() -> T,
    ) -> Result<(Arc<T>, Arc<Policy>), ConfigError> {
        self.enter(policy, limits, new).map(|(kept, opened, _)| (kept, opened))
    }

    fn enter(&self, policy: &Policy, limits: &[Limit], new: impl FnOnce() -> T) -> Result<Entered<T>, ConfigError> {
        let now_ms = self.time.now_ms();
        let mut named = self.named();
        if named.by_name.len() >= named.tidy_at {
            named.tidy(now_ms);
        }
        let spans: Box<[u32]> = limits.iter().map(|limit| limit.span).collect();
        let mut entry = match named.by_name.remove(policy.name()) {
            Some(entry) => entry,
            None => Entry { kept: Arc::new(new()), open: Vec::new(), past: Vec::new(), last: Weak::new() },
        };
        entry.retire(now_ms);
        let opened = Arc::new(policy.clone());
        let result = if entry.spans(&spans).len() > MAX_QUOTAS {
            Err(ConfigError::TooManyQuotas { most: MAX_QUOTAS })
        } else {
            let longest_ms = policy.quotas().iter().map(Quota::window_ms).max().unwrap_or(0);
            entry.open.push(Open { policy: Arc::downgrade(&opened), spans, longest_ms });
            let other = std::mem::replace(&mut entry.last, Arc::downgrade(&opened)).upgrade();
            Ok((Arc::clone(&entry.kept), opened, other))
        };
        entry.keep_history();
        if !entry.open.is_empty() || !entry.kept.may_go(entry.past.is_empty()) {
            named.by_name.insert(policy.name().into(), entry);
        }
        result
    }

    /// Drops unused values without history.
    pub(crate) fn tidy(&self) {
        let now_ms = self.time.now_ms();
        self.named().tidy(now_ms);
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.named().by_name.values().map(|entry| Arc::clone(&entry.kept)).collect()
    }

    fn named(&self) -> MutexGuard<'_, Named<T>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Kept> Named<T> {
    fn tidy(&mut self, now_ms: u64) {
        self.by_name.retain(|_, entry| {
            if entry.retire(now_ms) {
                entry.keep_history();
            }
            !entry.open.is_empty() || !entry.kept.may_go(entry.past.is_empty())
        });
        self.tidy_at = (2 * self.by_name.len()).max(FEW);
        if self.by_name.capacity() > 4 * self.tidy_at {
            self.by_name.shrink_to_fit();
        }
    }
}

impl<T: Kept> Entry<T> {
    /// Marks policies that are no longer in use, and windows that have passed; returns whether it found any.
    fn retire(&mut self, now_ms: u64) -> bool {
        let before = (self.open.len(), self.past.len());
        let past = &mut self.past;
        self.open.retain(|open| {
            let is_open = open.policy.strong_count() > 0;
            if let (false, Some(&span)) = (is_open, open.spans.iter().max()) {
                past.push(Past { span, until_ms: now_ms.saturating_add(open.longest_ms) });
            }
            is_open
        });
        // Another span covers this one if it reaches at least as far back and lasts at least as long.
        let all = past.clone();
        let is_served = |one: &Past, at: usize| {
            all.iter().enumerate().any(|(other_at, other)| {
                let serves = other.span >= one.span && other.until_ms >= one.until_ms;
                let is_same = other.span == one.span && other.until_ms == one.until_ms;
                serves && other_at != at && (!is_same || other_at < at)
            })
        };
        let mut at = 0;
        past.retain(|one| {
            at += 1;
            one.until_ms > now_ms && !is_served(one, at - 1)
        });
        before != (self.open.len(), self.past.len())
    }

    /// Returns the distinct spans of the policies in use and of one more, in rising order.
    fn spans(&self, more: &[u32]) -> Vec<u32> {
        let mut spans: Vec<u32> = self.open.iter().flat_map(|open| &*open.spans).chain(more).copied().collect();
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    /// Retains history for the policies in use, and as far back as unused ones may need it.
    fn keep_history(&self) {
        let longest: Vec<u32> = self.past.iter().map(|past| past.span).max().into_iter().collect();
        let spans = self.spans(&longest);
        if !spans.is_empty() {
            self.kept.keep_history(&spans);
        }
    }
}

/// Returns why a policy and another one in use probably share their keys by mistake.
fn confusion(other: &Policy, policy: &Policy) -> Option<&'static str> {
    if policy.shares_name() {
        return None;
    }
    if policy.quotas() != other.quotas() || policy.strategy() != other.strategy() {
        return Some("their quotas or strategies differ");
    }
    (policy.name() == Policy::UNNAMED).then_some("neither has a name, so both are called `default`")
}

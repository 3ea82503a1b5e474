//! What a store keeps by the names of limits.
//!
//! It stays while a layer that was dropped may be built anew and must find its history: until the windows of its quotas
//! have passed and nothing is left in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::engine::Limit;
use crate::error::ConfigError;
use crate::policy::Policy;
use crate::quota::{MAX_QUOTAS, Quota};
use crate::telemetry::{self, Notice};
use crate::time::TimeSource;

/// What a store keeps for a name.
pub(crate) trait Kept {
    /// Keeps history for these spans and no others from now on.
    fn keep_history(&self, spans: &[u32]);

    /// Whether it can be made anew without a loss, now that no policy uses it; `is_past` if the windows of all that did
    /// have passed.
    fn may_go(&self, is_past: bool) -> bool;
}

/// One `T` for each name.
pub(crate) struct PolicyRegistry<T> {
    time: TimeSource,
    named: Mutex<Named<T>>,
}

struct Named<T> {
    by_name: HashMap<Arc<str>, Entry<T>>,
    /// The number of names at which those that nobody uses are looked for.
    tidy_at: usize,
}

/// What is kept for a name, and for which policies.
struct Entry<T> {
    kept: Arc<T>,
    open: Vec<Open>,
    past: Vec<Past>,
    /// The policy that was opened last.
    last: Weak<Policy>,
}

/// A policy, which is in use while somebody else holds it, and the spans for which it needs history.
struct Open {
    policy: Weak<Policy>,
    spans: Box<[u32]>,
    longest_ms: u64,
}

/// A span that nobody uses any more, and until when its history is kept.
#[derive(Clone, Copy)]
struct Past {
    span: u32,
    until_ms: u64,
}

/// What is kept for a name, the policy that was opened, and the one in use that was opened before it.
type Entered<T> = (Arc<T>, Arc<Policy>, Option<Arc<Policy>>);

/// Names up to which none is looked for that nobody uses.
const FEW: usize = 64;

impl<T: Kept> PolicyRegistry<T> {
    pub(crate) fn new(time: TimeSource) -> Self {
        Self { time, named: Mutex::new(Named { by_name: HashMap::new(), tidy_at: FEW }) }
    }

    /// What is kept for a policy's name, and the policy, to be held for as long as it is in use.
    ///
    /// A notice is logged if the policy shares its budgets with another one that is in use, and hardly means to.
    ///
    /// # Errors
    ///
    /// If the policies in use have more distinct windows than a history has room for.
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

    /// The same for what goes with a policy that was opened elsewhere: without a notice.
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

    /// Forgets what nobody uses any more and what has no history left.
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
    /// Notes which policies are not in use any more, and which windows have passed; whether there are any.
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
        // One that reaches no further back than another, and not longer, is served by that.
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

    /// The distinct spans of the policies in use and of another one, in rising order.
    fn spans(&self, more: &[u32]) -> Vec<u32> {
        let mut spans: Vec<u32> = self.open.iter().flat_map(|open| &*open.spans).chain(more).copied().collect();
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    /// Keeps history for the policies in use, and for as far back as those that are not may need it yet.
    fn keep_history(&self) {
        let longest: Vec<u32> = self.past.iter().map(|past| past.span).max().into_iter().collect();
        let spans = self.spans(&longest);
        if !spans.is_empty() {
            self.kept.keep_history(&spans);
        }
    }
}

/// What makes it unlikely that a policy and another in use were meant to share their keys.
fn confusion(other: &Policy, policy: &Policy) -> Option<&'static str> {
    if policy.quotas() != other.quotas() || policy.strategy() != other.strategy() {
        return Some("their quotas or strategies differ");
    }
    (policy.name() == Policy::UNNAMED).then_some("neither has a name, so both are called `default`")
}

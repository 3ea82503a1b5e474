//! Requests, and what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a request is limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Surface {
    /// `rl.redis().absolute()`.
    Engine,
    /// A layer over `rl.redis()`.
    Layer,
}

/// Who decided on a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    Redis,
    /// This instance's part of the limit.
    Share,
    /// Only the policy, which refused or admitted it without a count.
    Nobody,
    /// A layer's admission does not say.
    Somebody,
}

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) surface: Surface,
    pub(crate) key: usize,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) is_admitted: bool,
    pub(crate) by: By,
}

impl Record {
    pub(crate) fn latency(&self) -> Duration {
        self.received - self.sent
    }

    /// Whether it was sent and answered in this time.
    pub(crate) fn is_within(&self, from: Instant, to: Instant) -> bool {
        self.sent >= from && self.received <= to
    }
}

/// The keys of a flow.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// One key, which is over its limit nearly all the time.
    Hot,
    /// A new key for each request, about which nobody but Redis can know.
    Fresh,
    /// These in turn; in the records they are numbered from `first` on.
    These { first: usize, keys: Arc<[String]> },
}

impl Keys {
    pub(crate) const HOT: usize = usize::MAX;
    pub(crate) const OTHER: usize = usize::MAX - 1;

    /// The key of a turn, and its number in the records.
    pub(crate) fn name(&self, turn: usize, fresh: impl FnOnce() -> u64) -> (usize, String) {
        match self {
            Self::Hot => (Self::HOT, "hot".to_owned()),
            Self::Fresh => (Self::OTHER, format!("fresh-{}", fresh())),
            Self::These { first, keys } => (first + turn % keys.len(), keys[turn % keys.len()].clone()),
        }
    }
}

/// The latency that a part of the requests does not exceed.
pub(crate) fn quantile(latencies: &mut [Duration], part: f64) -> Duration {
    latencies.sort_unstable();
    let at = (latencies.len() as f64 * part) as usize;
    latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
}

//! The refused share as a function of the limit, and the smallest limit for a given share.
//!
//! Each point is a replay of all requests, in several threads at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::limit::LARGEST;
use crate::policy::Policy;
use crate::tally::Tally;
use crate::trace::Trace;

/// How often the first points halve and double the size.
const OCTAVES: u32 = 4;

/// The refused share for some sizes of a policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    /// The share for each size, from 0 to 1.
    pub(crate) shares: BTreeMap<u64, f64>,
    /// The largest share that the user wants.
    pub(crate) target: Option<f64>,
    /// The smallest size with at most the target, if any size has it.
    pub(crate) smallest: Option<u64>,
}

struct Search<'a> {
    policy: &'a Policy,
    trace: &'a Trace,
    tally: &'a Tally,
    threads: usize,
    shares: BTreeMap<u64, f64>,
    /// The share that no size goes below: of requests that are refused for other reasons.
    floor: f64,
}

/// Replays the trace with smaller and larger limits.
///
/// # Errors
///
/// Returns a message for the user.
pub(crate) fn curve(policy: &Policy, trace: &Trace, tally: &Tally, target: Option<f64>) -> Result<Curve, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let floor = policy.least_share(trace, tally)?;
    let size = policy.size();
    let mut search = Search { policy, trace, tally, threads, shares: BTreeMap::from([(size, tally.share())]), floor };
    search.replay((1..=OCTAVES).map(|octave| size >> octave).filter(|size| *size > 0))?;
    search.widen(target)?;
    let smallest = match target {
        Some(target) => search.bisect(target)?,
        None => None,
    };
    Ok(Curve { shares: search.shares, target, smallest })
}

impl Search<'_> {
    /// Doubles the size until no larger one refuses less, and halves it until more than the target is.
    fn widen(&mut self, target: Option<f64>) -> Result<(), String> {
        while let Some((&most, &share)) = self.shares.last_key_value()
            && share > self.floor
            && most < LARGEST
        {
            let larger = (1..=self.threads).map(|octave| (most << octave).min(LARGEST));
            self.replay(larger.collect::<Vec<_>>())?;
        }
        // Beyond the first such size, there is nothing to see.
        if let Some(enough) = self.shares.iter().find(|(_, share)| **share <= self.floor).map(|(size, _)| *size) {
            let visible = enough.max(self.policy.size());
            self.shares.retain(|size, _| *size <= visible);
        }
        while let Some((&least, &share)) = self.shares.first_key_value()
            && target.is_some_and(|target| share <= target)
            && least > 1
        {
            self.replay((1..=self.threads).map(|octave| (least >> octave).max(1)).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The smallest size with at most this share, or `None` if no size has it.
    fn bisect(&mut self, target: f64) -> Result<Option<u64>, String> {
        loop {
            let Some(enough) = self.shares.iter().find(|(_, share)| **share <= target).map(|(size, _)| *size) else {
                return Ok(None);
            };
            let too_small = self.shares.range(..enough).next_back().map_or(0, |(size, _)| *size);
            let between = enough - too_small;
            if between <= 1 {
                return Ok(Some(enough));
            }
            let parts = (self.threads as u64 + 1).min(between);
            self.replay((1..parts).map(|part| too_small + between * part / parts).collect::<Vec<_>>())?;
        }
    }

    /// Replays the trace with these sizes.
    fn replay(&mut self, sizes: impl IntoIterator<Item = u64>) -> Result<(), String> {
        let mut sizes: Vec<u64> = sizes.into_iter().filter(|size| !self.shares.contains_key(size)).collect();
        sizes.dedup();
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
        let (policy, trace, tally) = (self.policy, self.trace, self.tally);
        let work = || {
            while let Some(size) = sizes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let share = policy.share_at(*size, trace, tally);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match (share, &mut *found) {
                    (Ok(share), Ok(shares)) => shares.push((*size, share)),
                    (Err(error), _) => *found = Err(error),
                    (Ok(_), Err(_)) => {}
                }
            }
        };
        thread::scope(|scope| (0..self.threads.min(sizes.len())).for_each(|_| drop(scope.spawn(work))));
        self.shares.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner)?);
        Ok(())
    }
}

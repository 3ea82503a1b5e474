//! The refusals of requests with several limits, which this instance repeats for a short time.
//!
//! A refusal of one limit stands until that limit has free units, as in the deny cache. Meanwhile another limit may fill
//! up, and then the request must wait longer. So a refusal is repeated for at most [`REPEATED_FOR`], and a flood costs
//! Redis a few calls per second for each key.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::deny_cache::RoundTrip;
use crate::decision::Decision;
use crate::keyspace::fingerprint::{Fingerprint, Secret};

/// How old the figures of a repeated refusal may be.
pub(super) const REPEATED_FOR: Duration = Duration::from_millis(50);
/// The most refusals. Each has a place by its fingerprint, and a newer one replaces it.
const PLACES: usize = 4_096;

/// See the module documentation.
#[derive(Default)]
pub(super) struct JointRefusals(OnceLock<Table>);

struct Table {
    secret: Secret,
    places: Box<[Mutex<Option<Entry>>]>,
}

struct Entry {
    print: Fingerprint,
    changes: u64,
    received: Instant,
    until: Instant,
    decisions: Box<[Decision]>,
}

impl JointRefusals {
    /// Returns the decisions of a refusal that still stands, if no key was corrected since. `request` identifies the
    /// keys, costs and limits.
    pub(super) fn get(&self, request: &[u8], changes: u64, now: Instant) -> Option<Box<[Decision]>> {
        let table = self.0.get()?;
        let print = table.secret.fingerprint(request);
        let place = table.place(print).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = place.as_ref().filter(|entry| entry.print == print && entry.changes == changes)?;
        let passed = now.saturating_duration_since(entry.received);
        (now < entry.until).then(|| entry.decisions.iter().map(|decision| decision.later(passed)).collect())
    }

    /// Remembers the decisions of a refusal. It stands for at most `wait`.
    pub(super) fn insert(&self, request: &[u8], wait: Duration, asked: RoundTrip, decisions: Box<[Decision]>) {
        let RoundTrip { sent, received, changes } = asked;
        let Some(until) = sent.checked_add(wait.min(REPEATED_FOR)) else { return };
        let table = self.0.get_or_init(Table::new);
        let print = table.secret.fingerprint(request);
        let entry = Entry { print, changes, received, until, decisions };
        *table.place(print).lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    }
}

impl Table {
    fn new() -> Self {
        Self { secret: Secret::random(), places: std::iter::repeat_with(Mutex::default).take(PLACES).collect() }
    }

    fn place(&self, print: Fingerprint) -> &Mutex<Option<Entry>> {
        &self.places[print.low as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions() -> Box<[Decision]> {
        Box::new([Decision::allowed(9, 3), Decision::rejected(5, 5, Some(Duration::from_millis(800)))])
    }

    fn waits(held: Option<Box<[Decision]>>) -> Option<Vec<u64>> {
        held.map(|held| held.iter().map(|decision| decision.retry_after_ms).collect())
    }

    #[test]
    fn a_refusal_is_repeated_for_a_short_time_with_the_rest_of_its_wait() {
        let refused = JointRefusals::default();
        let sent = Instant::now();
        let at = |ms| sent + Duration::from_millis(ms);
        let asked = RoundTrip { sent, received: at(10), changes: 7 };
        assert_eq!(waits(refused.get(b"a", 7, at(11))), None);
        refused.insert(b"a", Duration::from_millis(800), asked, decisions());
        assert_eq!(waits(refused.get(b"a", 7, at(10))), Some(vec![0, 800]));
        assert_eq!(waits(refused.get(b"a", 7, at(49))), Some(vec![0, 761]));
        assert_eq!(waits(refused.get(b"a", 7, at(50))), None, "its time is over");
        assert_eq!(waits(refused.get(b"a", 8, at(11))), None, "a key was corrected");
        assert_eq!(waits(refused.get(b"b", 7, at(11))), None);
    }

    #[test]
    fn a_refusal_is_not_repeated_beyond_its_wait() {
        let refused = JointRefusals::default();
        let sent = Instant::now();
        let asked = RoundTrip { sent, received: sent, changes: 0 };
        refused.insert(b"a", Duration::from_millis(20), asked, decisions());
        assert!(refused.get(b"a", 0, sent + Duration::from_millis(19)).is_some());
        assert!(refused.get(b"a", 0, sent + Duration::from_millis(20)).is_none());
    }
}

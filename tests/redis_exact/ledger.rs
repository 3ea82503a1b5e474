//! What was admitted and when, and whether that was too much.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An admission: it took place on the server at some instant from `sent` to `received`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Admission {
    /// In nanoseconds of the clock that all processes of a machine share.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) cost: u64,
}

/// The time on the clock that all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// All admissions on one key.
#[derive(Debug, Default)]
pub(crate) struct Ledger(pub(crate) Vec<Admission>);

impl Ledger {
    /// The most units that were certainly admitted within one window: sent not before its start, and answered
    /// before its end. Windows that start at no admission hold no more than the next one that does.
    pub(crate) fn most_within(&mut self, window: Duration) -> u64 {
        self.0.sort_unstable_by_key(|admission| admission.sent);
        let window = u64::try_from(window.as_nanos()).unwrap();
        let slowest = self.0.iter().map(|admission| admission.received - admission.sent).max().unwrap_or(0);
        let (mut most, mut sent, mut behind) = (0, 0, 0);
        for (index, first) in self.0.iter().enumerate() {
            let end = first.sent + window;
            while let Some(next) = self.0.get(behind).filter(|next| next.sent < end) {
                (behind, sent) = (behind + 1, sent + next.cost);
            }
            // Of these, only the last may have been answered behind the end.
            let within = &self.0[index..behind.max(index)];
            let last = within.iter().rev().take_while(|admission| admission.sent + slowest >= end);
            let late = last.filter(|admission| admission.received >= end);
            most = most.max(sent - late.map(|admission| admission.cost).sum::<u64>());
            sent -= first.cost;
        }
        most
    }

    pub(crate) fn units(&self) -> u64 {
        self.0.iter().map(|admission| admission.cost).sum()
    }

    /// From the first request that was admitted to the last answer.
    pub(crate) fn duration(&self) -> Duration {
        let first = self.0.iter().map(|admission| admission.sent).min().unwrap_or(0);
        let last = self.0.iter().map(|admission| admission.received).max().unwrap_or(0);
        Duration::from_nanos(last - first)
    }

    /// The units of which a limiter that holds each for `hold` has room at least once in that long a flood: a full
    /// window at once, and then one for each that has passed.
    pub(crate) fn room(limit: u64, flood: Duration, hold: Duration) -> f64 {
        limit as f64 * (flood.as_secs_f64() / hold.as_secs_f64()).max(1.0)
    }
}

#[test]
fn a_ledger_counts_what_lies_within_a_window_for_sure() {
    let at = |sent, received, cost| Admission { sent, received, cost };
    let mut ledger = Ledger(vec![at(50, 60, 4), at(0, 10, 1), at(99, 110, 8), at(105, 149, 16)]);
    assert_eq!(ledger.most_within(Duration::from_nanos(100)), 4 + 8 + 16);
    assert_eq!(ledger.most_within(Duration::from_nanos(51)), 8 + 16);
    assert_eq!(ledger.most_within(Duration::from_nanos(50)), 16, "one is answered too late for it");
    assert_eq!(ledger.most_within(Duration::from_nanos(5)), 0);
    assert_eq!((ledger.units(), ledger.duration()), (29, Duration::from_nanos(149)));
}

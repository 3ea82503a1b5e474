//! What was admitted and when, and whether that was too much.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An admission, or a refusal: it took place at some instant from `sent` to `received`.
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

    /// The units of which a limiter that holds each for `hold` has room at least once in that long a flood: a full
    /// window at once, and then one for each that has passed.
    pub(crate) fn room(limit: u64, flood: Duration, hold: Duration) -> f64 {
        limit as f64 * (flood.as_secs_f64() / hold.as_secs_f64()).max(1.0)
    }

    /// What was sent from then on.
    pub(crate) fn since(&self, sent: u64) -> Self {
        Self(self.0.iter().filter(|admission| admission.sent >= sent).copied().collect())
    }

    /// The requests of some that were refused although they fitted at every instant of their round trip, with the most
    /// units that may have been in use then. Each unit is in use for at most `hold`.
    ///
    /// However slow a machine is, that does not happen: it delays requests, and fills no limit.
    pub(crate) fn refused_in_vain(&self, refused: &[Admission], limit: u64, hold: Duration) -> Vec<(Admission, u64)> {
        let hold = u64::try_from(hold.as_nanos()).unwrap();
        let sums = |of: fn(&Admission) -> u64| {
            let mut all: Vec<(u64, u64)> = self.0.iter().map(|admission| (of(admission), admission.cost)).collect();
            all.sort_unstable();
            let mut sum = 0;
            all.iter_mut().for_each(|(_, cost)| (sum, *cost) = (sum + *cost, sum + *cost));
            all
        };
        let (sent, received) = (sums(|admission| admission.sent), sums(|admission| admission.received));
        let until = |sums: &[(u64, u64)], end: u64| match sums.partition_point(|(at, _)| *at < end) {
            0 => 0,
            count => sums[count - 1].1,
        };
        let in_use = |of: &Admission| until(&sent, of.received + 1) - until(&received, of.sent.saturating_sub(hold));
        let with_use = refused.iter().map(|of| (*of, in_use(of)));
        with_use.filter(|(of, in_use)| in_use + of.cost <= limit).collect()
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
    assert_eq!((ledger.units(), ledger.since(99).units()), (29, 24));
    assert_eq!(Ledger::room(10, Duration::from_secs(5), Duration::from_secs(2)), 25.0);
}

#[test]
fn a_ledger_knows_which_refusals_were_in_vain() {
    let at = |sent, received, cost| Admission { sent, received, cost };
    let ledger = Ledger(vec![at(0, 10, 4), at(20, 30, 4)]);
    let in_vain = |sent, received, cost| {
        let all = ledger.refused_in_vain(&[at(sent, received, cost)], 10, Duration::from_nanos(100));
        all.first().map(|(_, in_use)| *in_use)
    };
    assert_eq!(in_vain(40, 50, 3), None, "8 of 10 are in use");
    assert_eq!(in_vain(40, 50, 2), Some(8));
    assert_eq!(in_vain(110, 150, 3), None, "the first may be in use when the refused one is sent");
    assert_eq!(in_vain(111, 150, 3), Some(4), "the first is over for sure");
    assert_eq!(in_vain(5, 20, 3), None, "the second may have come before");
    assert_eq!(in_vain(5, 19, 3), Some(4));
    assert_eq!(in_vain(500, 600, 10), Some(0));
    assert_eq!(in_vain(500, 600, 11), None, "it never fits");
}

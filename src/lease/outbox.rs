//! Unacknowledged reports: every call carries them until a reply arrives.

use super::lease::Lease;
use super::params::{StoreParams, min_age_ms};
use crate::script::{LeaseId, Report, ReportKind, SyncRequest};

/// The slots of a window; units in one slot that Redis does not hold share a stamp.
const SLOTS: u64 = 32;

/// The reports of one instance on one key.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Outbox {
    entries: Vec<Entry>,
    /// The units admitted during an outage, each with an instant before which it was admitted.
    admitted: Vec<(u64, u64)>,
    /// Whether it contains the resubmission after a loss of data.
    pub(crate) is_resubmission: bool,
    /// Whether a timer to send it is set.
    pub(crate) is_scheduled: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Entry {
    id: LeaseId,
    kind: ReportKind,
    spent: Vec<(u64, u64)>,
    since: u64,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.admitted.is_empty()
    }

    fn push(&mut self, id: LeaseId, kind: ReportKind, spent: Vec<(u64, u64)>, since: u64) {
        if self.entries.len() == SyncRequest::MOST_REPORTS {
            // Its units stay charged until they leave the window.
            self.entries.remove(0);
        }
        self.entries.push(Entry { id, kind, spent, since });
    }

    /// Adds a lease that has ended.
    pub(crate) fn push_lease(&mut self, lease: &Lease, now: u64) {
        self.push(lease.id, ReportKind::Lease, lease.spent().collect(), now);
    }

    /// Adds a lease that may have been given, and of which no unit was spent.
    pub(crate) fn push_unspent(&mut self, id: LeaseId, now: u64) {
        self.push(id, ReportKind::Lease, Vec::new(), now);
    }

    /// Adds units that Redis does not hold.
    pub(crate) fn push_extra(&mut self, id: LeaseId, spent: Vec<(u64, u64)>, now: u64) {
        if !spent.is_empty() {
            self.push(id, ReportKind::Extra, spent, now);
        }
    }

    /// Adds units that were admitted during an outage.
    pub(crate) fn admit(&mut self, now: u64, units: u64, window_ms: u64) {
        match self.admitted.last_mut() {
            Some((before, sum)) if now < *before => *sum = sum.saturating_add(units),
            _ => {
                self.admitted.retain(|&(before, _)| before + window_ms >= now);
                self.admitted.push((now + (window_ms / SLOTS).max(1), units));
            }
        }
    }

    /// Refunds units that were admitted during an outage.
    pub(crate) fn refund(&mut self, mut units: u64) {
        while let Some((_, last)) = self.admitted.last_mut() {
            let gone = units.min(*last);
            (*last, units) = (*last - gone, units - gone);
            if *last > 0 {
                return;
            }
            self.admitted.pop();
        }
    }

    /// Combines the units admitted during an outage into one report.
    pub(crate) fn close(&mut self, now: u64, id: impl FnOnce() -> LeaseId) {
        if !self.admitted.is_empty() {
            let admitted = std::mem::take(&mut self.admitted);
            self.push_extra(id(), admitted, now);
        }
    }

    /// Forgets reports that have left the window.
    pub(crate) fn expire(&mut self, now: u64, kept_ms: u64) {
        self.entries.retain(|entry| entry.since.saturating_add(kept_ms) >= now);
        self.admitted.retain(|&(before, _)| before.saturating_add(kept_ms) >= now);
    }

    /// Converts units spent from another process's lease to new units: a forked process inherits leases that its parent
    /// reports.
    pub(crate) fn disown(&mut self, nonce: u64, id: impl Fn() -> LeaseId) {
        self.entries.retain_mut(|entry| {
            let is_own = entry.id.nonce == nonce;
            if !is_own {
                (entry.id, entry.kind) = (id(), ReportKind::Extra);
            }
            is_own || !entry.spent.is_empty()
        });
    }

    /// Returns the reports, with their ages at `now`.
    pub(crate) fn reports(&self, now: u64, params: &StoreParams) -> Vec<Report> {
        let aged = |&(before, units): &(u64, u64)| (min_age_ms(before, now, params), units);
        let report = |Entry { id, kind, spent, .. }: &Entry| Report {
            id: *id,
            kind: *kind,
            spent: spent.iter().map(aged).collect(),
        };
        self.entries.iter().map(report).collect()
    }

    /// The units spent since an instant, or slightly before it, that no reply of Redis includes. An earlier reply
    /// included the resubmitted units.
    pub(crate) fn spent_since(&self, from: u64) -> u64 {
        if self.is_resubmission {
            return 0;
        }
        let spent = self.entries.iter().flat_map(|entry| &entry.spent).chain(&self.admitted);
        spent.filter(|&&(before, _)| before > from).map(|&(_, units)| units).sum()
    }

    /// Forgets the sent reports, because a reply arrived.
    pub(crate) fn acknowledge(&mut self) {
        self.entries.clear();
        self.is_resubmission = false;
    }

    /// Forgets all reports.
    pub(crate) fn clear(&mut self) {
        self.admitted.clear();
        self.acknowledge();
    }
}

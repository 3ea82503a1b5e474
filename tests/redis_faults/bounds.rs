//! What must hold of a site's records, whatever the fault.

use tower_weir::OnStoreError;

use crate::support::scheduler_stalls;
use crate::traffic::{By, Keys, Record, Surface};
use crate::workload::{CAPACITY, PART, WINDOW};

/// Fails where a request took too long, save for what the whole process stood still.
pub(crate) fn check_latency(name: &str, records: &[Record]) {
    let Some(worst) = records.iter().max_by_key(|record| record.latency()) else { return };
    let latest = scheduler_stalls::latest();
    assert!(worst.latency() < latest, "{name}: {:?} of {latest:?}: {worst:?}", worst.latency());
}

/// Every call was answered in time and by Redis or the policy, and no window has too many.
///
/// `keeps` says whether Redis kept its data.
pub(crate) fn check(name: &str, policy: OnStoreError, records: &[Record], keeps: bool) {
    assert!(records.len() > 100, "{name} {policy:?}: only {} requests", records.len());
    check_latency(&format!("{name} {policy:?}"), records);
    for record in records {
        let is_allowed = match (policy, record.by) {
            (_, By::Redis | By::Somebody) => true,
            (OnStoreError::LocalShare, by) => by == By::Share,
            (OnStoreError::Reject, by) => by == By::Nobody && !record.is_admitted,
            (_, by) => by == By::Nobody && record.is_admitted,
        };
        assert!(is_allowed, "{name} {policy:?}: {record:?}");
    }
    for surface in [Surface::Engine, Surface::Layer] {
        let is_hot = |record: &&Record| record.surface == surface && record.key == Keys::HOT && record.is_admitted;
        let admitted: Vec<Record> = records.iter().filter(is_hot).copied().collect();
        match policy {
            OnStoreError::Reject if keeps => most_in_a_window(name, &admitted, CAPACITY),
            OnStoreError::LocalShare => {
                parts(name, &admitted);
                if keeps {
                    most_in_a_window(name, &admitted, CAPACITY + PART);
                }
            }
            _ => {}
        }
    }
}

/// No more than `most` were sent after the start of a window and answered before its end.
fn most_in_a_window(name: &str, admitted: &[Record], most: u64) {
    for first in admitted {
        let within = |record: &&Record| record.sent >= first.sent && record.received < first.sent + WINDOW;
        let count = admitted.iter().filter(within).count() as u64;
        assert!(count <= most, "{name}: {count} of {most} in a window");
    }
}

/// What the share admits fits beside all that this instance was known to have admitted in the window before.
fn parts(name: &str, admitted: &[Record]) {
    for last in admitted.iter().filter(|record| record.by == By::Share) {
        let is_before = |record: &&Record| record.received <= last.sent && record.sent + WINDOW >= last.received;
        let count = admitted.iter().filter(is_before).count() as u64 + 1;
        assert!(count <= PART, "{name}: {count} of a part of {PART}");
    }
}

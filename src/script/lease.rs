//! The encoding of an instance's requests, reports and leases.

use super::lease_id::LeaseId;
use super::wire::{Ask, MOST_UNITS, Reader, put, put_id};

/// Spent units. Redis applies each report once, by its id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) id: LeaseId,
    pub(crate) kind: ReportKind,
    /// The spent units, each with a largest age in milliseconds. At most [`Self::MOST`].
    pub(crate) spent: Vec<(u32, u64)>,
}

/// The effect of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// It ends the lease of this id, and adds at most the units of that lease.
    Lease = 0,
    /// It adds units that Redis does not hold yet.
    Extra = 1,
}

/// One instance's call on one key: its reports, and its request for a lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyncRequest {
    /// The id of the lease, if the reply grants one.
    pub(crate) id: LeaseId,
    /// The expected epoch of the value; 0 if the value need not exist.
    pub(crate) expected: u32,
    /// The epoch for a value that has none.
    pub(crate) proposed: u32,
    /// The recent demand, in units per millisecond.
    pub(crate) rate: f64,
    /// The units that the suppressed strategy shed here since the last call.
    pub(crate) shed_units: u64,
    pub(crate) wants: bool,
    pub(crate) reports: Vec<Report>,
}

/// The lease of an instance, and the state of the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SyncReply {
    /// Whether the value was not the expected one; the call then had no effect.
    pub(crate) is_lost: bool,
    /// The limit with the smallest free part.
    pub(crate) binding: u8,
    pub(crate) units: u64,
    /// The units that remain free.
    pub(crate) free: u64,
    /// The units that count against the binding limit, without those of this lease.
    pub(crate) used: u64,
    /// The units among them that instances hold in leases.
    pub(crate) held: u64,
    /// If too few units are free for a lease, the tick at which enough are free; otherwise 0.
    pub(crate) fits_at: u64,
    /// The units that count at that tick.
    pub(crate) used_then: u64,
    /// How long the lease can be spent, from when it was given.
    pub(crate) life_ms: u32,
    /// The delay until the next sync.
    pub(crate) horizon_ms: u32,
    /// The delay after which a refusal may be obsolete, because other instances may return units; 0 if none holds any.
    pub(crate) ask_again_ms: u32,
    /// The part of the requests that the suppressed strategy admits.
    pub(crate) ratio: f64,
    pub(crate) epoch: u32,
    /// The least time for which the value lives; 0 if the call did not change it.
    pub(crate) ttl_ms: u32,
}

impl Report {
    /// The most entries of one report.
    pub(crate) const MOST: usize = u8::MAX as usize;
}

impl SyncRequest {
    /// The most reports of one call.
    pub(crate) const MOST_REPORTS: usize = 32;

    /// Encodes the call, with the requests to decide after the reports and before the lease.
    pub(crate) fn bytes(&self, asks: &[Ask]) -> Box<[u8]> {
        let mut out = Vec::with_capacity(64 + 9 * asks.len());
        put_id(&mut out, self.id);
        put(&mut out, u64::from(self.expected), 4);
        put(&mut out, u64::from(self.proposed), 4);
        put(&mut out, self.rate.to_bits(), 8);
        put(&mut out, self.shed_units.min(MOST_UNITS), 5);
        put(&mut out, u64::from(self.wants), 1);
        put(&mut out, asks.len() as u64, 2);
        let reports = &self.reports[..self.reports.len().min(Self::MOST_REPORTS)];
        put(&mut out, reports.len() as u64, 1);
        for report in reports {
            put_id(&mut out, report.id);
            let spent = &report.spent[..report.spent.len().min(Report::MOST)];
            out.push(report.kind as u8);
            put(&mut out, spent.len() as u64, 1);
            for &(age_ms, units) in spent {
                put(&mut out, u64::from(age_ms), 4);
                put(&mut out, units.min(MOST_UNITS), 5);
            }
        }
        asks.iter().for_each(|ask| ask.write(&mut out));
        out.into_boxed_slice()
    }
}

impl SyncReply {
    /// The length of a reply in bytes.
    pub(crate) const BYTES: usize = 61;

    /// Returns `None` if the bytes cannot be a reply for this number of limits.
    pub(crate) fn read(answer: &[u8], limits: usize) -> Option<Self> {
        let mut reader = Reader(answer);
        let reply = Self {
            is_lost: reader.number(1)? == 1,
            binding: reader.number(1)? as u8,
            units: reader.number(5)?,
            free: reader.number(5)?,
            used: reader.number(5)?,
            held: reader.number(5)?,
            fits_at: reader.tick()?,
            used_then: reader.number(5)?,
            life_ms: reader.number(4)? as u32,
            horizon_ms: reader.number(4)? as u32,
            ask_again_ms: reader.number(4)? as u32,
            ratio: reader.double()?,
            epoch: reader.number(4)? as u32,
            ttl_ms: reader.number(4)? as u32,
        };
        (usize::from(reply.binding) < limits && (0.0..=1.0).contains(&reply.ratio)).then_some(reply)
    }
}

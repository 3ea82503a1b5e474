//! What an instance reports and is lent, as it travels.

use super::wire::{Ask, MOST_UNITS, Reader, put};

/// A lease's name: whose it is, by a random number, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId {
    pub(crate) nonce: u64,
    pub(crate) counter: u32,
}

/// Units that were spent. Redis takes up each report once, by its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) id: LeaseId,
    pub(crate) kind: ReportKind,
    /// What was spent: at most so many milliseconds ago, and the units. At most [`Self::MOST`].
    pub(crate) spent: Vec<(u32, u64)>,
}

/// What a report does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// It settles the lease of this name, and adds no more units than were lent.
    Lease = 0,
    /// It adds units that Redis does not hold yet.
    Extra = 1,
}

/// One instance's call on one key: what it reports, and what it wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyncRequest {
    /// The lease that it gets, if it gets one.
    pub(crate) id: LeaseId,
    /// The epoch of the value that it has to find; 0 where there need not be any.
    pub(crate) expected: u32,
    /// The epoch of a value that has none.
    pub(crate) proposed: u32,
    /// Units a millisecond that it was asked for of late.
    pub(crate) rate: f64,
    /// Units that the suppressed strategy shed here since the last call.
    pub(crate) shed_units: u64,
    pub(crate) wants: bool,
    pub(crate) reports: Vec<Report>,
}

/// What an instance was lent, and what it has to know of the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SyncReply {
    /// Whether the value was not the one that was expected: then nothing was done.
    pub(crate) is_lost: bool,
    /// The limit with the smallest part free.
    pub(crate) binding: u8,
    pub(crate) units: u64,
    /// Units that are free after that.
    pub(crate) free: u64,
    /// Units that count against the limit that binds, without those of this lease.
    pub(crate) used: u64,
    /// Those of them that instances hold in leases.
    pub(crate) held: u64,
    /// Where too little is free to be lent, the tick at which it is again; else 0.
    pub(crate) fits_at: u64,
    /// Units that count at that tick.
    pub(crate) used_then: u64,
    /// How long the lease may be spent, counted from when it was given.
    pub(crate) life_ms: u32,
    /// After how long to come again.
    pub(crate) horizon_ms: u32,
    /// After how long a refusal may be untrue, since other instances may give units back; 0 where none holds any.
    pub(crate) ask_again_ms: u32,
    /// The part of the requests that the suppressed strategy admits.
    pub(crate) ratio: f64,
    pub(crate) epoch: u32,
    /// How long the value surely lives; 0 where the call changed nothing of that.
    pub(crate) ttl_ms: u32,
}

impl Report {
    /// Entries of one report.
    pub(crate) const MOST: usize = u8::MAX as usize;
}

impl SyncRequest {
    /// Reports of one call.
    pub(crate) const MOST_REPORTS: usize = 32;

    /// The bytes, with the asks that are to be decided after the reports and before anything is lent.
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

fn put_id(out: &mut Vec<u8>, id: LeaseId) {
    put(out, id.nonce, 8);
    put(out, u64::from(id.counter), 4);
}

impl SyncReply {
    /// The bytes of an answer.
    pub(crate) const BYTES: usize = 61;

    /// Nothing where the bytes cannot be an answer on so many limits.
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

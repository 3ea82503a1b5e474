//! A policy: a limit, or a file.

use crate::limit::{Engine, LARGEST, Limit};
use crate::policy_file::PolicyFile;
use crate::tally::{Tally, share};
use crate::trace::{Column, Trace};

/// What is replayed.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Limit(Limit),
    File(Box<PolicyFile>),
}

/// A policy, and where the trace has its keys.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) kind: Kind,
    /// The column of the keys that are reported.
    pub(crate) column: usize,
    /// The column of the requests that a layer gets.
    pub(crate) requests: usize,
    pub(crate) engine: Engine,
}

impl Policy {
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Limit(limit) => limit.text(),
            Kind::File(file) => file.path.clone(),
        }
    }

    pub(crate) fn per(&self) -> &str {
        match &self.kind {
            Kind::Limit(limit) => &limit.per,
            Kind::File(_) => "as in the file",
        }
    }

    pub(crate) fn strategy(&self) -> String {
        match &self.kind {
            Kind::Limit(limit) => limit.strategy(),
            Kind::File(_) => "as in the file".into(),
        }
    }

    pub(crate) fn keys<'a>(&self, trace: &'a Trace) -> &'a Column {
        &trace.columns[self.column]
    }

    /// Replays the trace.
    ///
    /// # Errors
    ///
    /// Returns a message for the user.
    pub(crate) fn replay(&self, trace: &Trace) -> Result<Tally, String> {
        let tally = match &self.kind {
            Kind::Limit(limit) => limit.replay(trace, self.keys(trace), self.engine).map_err(Into::into),
            Kind::File(file) => file.replay(trace, self.keys(trace), &trace.columns[self.requests], self.engine),
        };
        tally.map_err(|error| format!("{}: {error}", self.name()))
    }

    /// The size that a search changes: the count of the first quota, or a percentage of all quotas of a file.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Limit(limit) => limit.quotas[0].count(),
            Kind::File(_) => 100,
        }
    }

    /// What the size counts, for the label of an axis.
    pub(crate) fn unit(&self) -> String {
        match &self.kind {
            Kind::Limit(limit) => {
                let text = limit.text();
                let first = text.split(',').next().unwrap_or_default();
                format!("limit, in requests per {}", first.split_once('/').map_or("window", |(_, window)| window))
            }
            Kind::File(_) => "size of all quotas, in % of those in the file".into(),
        }
    }

    /// The policy at another size, as a text.
    pub(crate) fn at(&self, size: u64) -> String {
        match &self.kind {
            Kind::Limit(limit) => limit.scaled(size).map_or_else(|error| error.to_string(), |limit| limit.text()),
            Kind::File(_) => format!("{size} % of the quotas"),
        }
    }

    /// The refused part that no size goes below, from 0 to 1.
    ///
    /// A limit that admits the whole log refuses nothing. A file also refuses what has no key, or is on a deny list.
    pub(crate) fn least_share(&self, trace: &Trace, tally: &Tally) -> Result<f64, String> {
        match &self.kind {
            Kind::Limit(_) => Ok(0.0),
            Kind::File(_) => self.share_at(tally.requests.saturating_mul(100).clamp(100, LARGEST), trace, tally),
        }
    }

    /// The refused part of the requests at another size, from 0 to 1.
    pub(crate) fn share_at(&self, size: u64, trace: &Trace, tally: &Tally) -> Result<f64, String> {
        let refused = match &self.kind {
            Kind::Limit(limit) => limit
                .scaled(size)
                .and_then(|limit| limit.refusals(trace, self.keys(trace), self.engine, &tally.offered_by))
                .map_err(Into::into),
            Kind::File(file) => file.scaled(size).map_err(Into::into).and_then(|file| {
                file.replay(trace, self.keys(trace), &trace.columns[self.requests], self.engine)
                    .map(|tally| tally.refused)
            }),
        };
        let refused = refused.map_err(|error: Box<dyn std::error::Error>| format!("{}: {error}", self.at(size)))?;
        Ok(share(refused, tally.requests))
    }
}

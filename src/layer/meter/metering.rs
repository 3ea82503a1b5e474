use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::as_text::MeterUnit;
use super::at_limit::AtLimit;
use crate::decision::Decision;
use crate::key::CODE;
use crate::store::Budget;
use crate::telemetry::LimitWatch;

/// Counts the units of a frame's data.
pub(in crate::layer) type CountUnits = dyn Fn(&Bytes) -> u64 + Send + Sync;

/// How a limit meters responses.
#[derive(Clone, Debug)]
pub(in crate::layer) struct Metering {
    pub(in crate::layer) units: Units,
    pub(in crate::layer) at_limit: AtLimit,
}

/// A limit that meters a response.
pub(in crate::layer) struct MeteredLimit {
    pub(in crate::layer) metering: Arc<Metering>,
    /// Decided on the request.
    pub(in crate::layer) budget: Arc<dyn Budget>,
    /// Decides on the frames.
    pub(in crate::layer) frames: Arc<dyn Budget>,
    pub(in crate::layer) key: Box<[u8]>,
    pub(in crate::layer) is_enforced: bool,
    pub(in crate::layer) admits_on_error: bool,
    /// The units of the smallest quota.
    pub(in crate::layer) capacity: u64,
    /// What the request was charged.
    pub(in crate::layer) charge: Option<(Decision, u64)>,
    pub(in crate::layer) watch: LimitWatch,
}

/// The unit of a meter.
#[derive(Clone)]
pub(in crate::layer) enum Units {
    /// Bytes, so that a part of a frame can be sent.
    Bytes,
    Counted(Arc<CountUnits>),
}

impl Units {
    pub(super) fn count(&self, data: &Bytes) -> u64 {
        match self {
            Self::Bytes => data.len() as u64,
            Self::Counted(count) => count(data),
        }
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => MeterUnit::Bytes.fmt(f),
            Self::Counted(_) => f.write_str(CODE),
        }
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

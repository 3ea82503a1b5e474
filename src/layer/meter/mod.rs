//! Charges that grow with the response: a meter counts the units of each frame before the frame is sent.
//!
//! The cost of the request is a reservation. Frames spend it first, and then ask the limit for their units. A spent unit
//! is dated when its frame is sent. What is not spent returns when the body ends, however it ends.

mod account;
mod at_limit;
mod running;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use self::at_limit::AtLimit;
pub(super) use self::running::{Meter, Polled};
use crate::decision::Decision;
use crate::store::Budget;

/// Counts the units of a frame's data.
pub(super) type CountUnits = dyn Fn(&Bytes) -> u64 + Send + Sync;

/// How a limit meters responses.
#[derive(Clone, Debug)]
pub(super) struct Metering {
    pub(super) units: Units,
    pub(super) at_limit: AtLimit,
}

/// A limit that meters a response.
pub(super) struct MeteredLimit {
    pub(super) metering: Arc<Metering>,
    /// Decided on the request.
    pub(super) budget: Arc<dyn Budget>,
    /// Decides on the frames.
    pub(super) frames: Arc<dyn Budget>,
    pub(super) key: Box<[u8]>,
    pub(super) is_enforced: bool,
    pub(super) admits_on_error: bool,
    /// The units of the smallest quota.
    pub(super) capacity: u64,
    /// What the request was charged.
    pub(super) charge: Option<(Decision, u64)>,
}

/// The unit of a meter.
#[derive(Clone)]
pub(super) enum Units {
    /// Bytes, so that a part of a frame can be sent.
    Bytes,
    Counted(Arc<CountUnits>),
}

impl Units {
    fn count(&self, data: &Bytes) -> u64 {
        match self {
            Self::Bytes => data.len() as u64,
            Self::Counted(count) => count(data),
        }
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "Bytes",
            Self::Counted(_) => "Counted",
        })
    }
}

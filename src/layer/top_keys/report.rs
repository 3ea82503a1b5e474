//! What a limit reports about its busiest keys.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::key::KeyName;

/// The busiest keys of a limit; see [`LimitControl::top_keys`](crate::layer::LimitControl::top_keys).
#[derive(Clone)]
pub struct TopKeysReport {
    pub(super) since: Duration,
    pub(super) requests: u64,
    pub(super) refusals: u64,
    pub(super) keys: Vec<TopKey>,
}

/// One key of a [`TopKeysReport`].
#[derive(Clone)]
pub struct TopKey {
    pub(super) id: KeyId,
    pub(super) name: Option<KeyName>,
    pub(super) requests: Estimate,
    pub(super) refusals: Estimate,
    /// Whether a counter of refusals has the key.
    pub(super) is_refused: bool,
}

/// A number that stands for a key. It depends on a random secret of the process, and reveals nothing about the key.
///
/// All limits of a process have the same id for the same key. The text form has 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) u64);

/// A count with its bounds. The true count is never outside of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// The smallest possible count.
    pub at_least: u64,
    /// The largest possible count, by which the keys are ranked.
    pub at_most: u64,
}

impl TopKeysReport {
    /// The time that the report covers: one to two periods, or less after the start.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The requests of all keys in this time.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The refusals of all keys in this time.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The keys by their requests, the most first.
    ///
    /// It has each key with more than `requests / size` requests, where `size` is that of the
    /// [`TopKeys`](crate::TopKeys), and other keys too.
    #[must_use]
    pub fn by_requests(&self) -> Vec<&TopKey> {
        let mut keys: Vec<&TopKey> = self.keys.iter().collect();
        keys.sort_by_key(|key| (Reverse(key.requests.at_most), key.id));
        keys
    }

    /// The keys by their refusals, the most first. A key without refusals is not listed.
    ///
    /// It has each key with more than `refusals / size` refusals.
    #[must_use]
    pub fn by_refusals(&self) -> Vec<&TopKey> {
        let mut keys: Vec<&TopKey> = self.keys.iter().filter(|key| key.is_refused).collect();
        keys.sort_by_key(|key| (Reverse(key.refusals.at_most), key.id));
        keys
    }

    /// The key with an id, if the report has it.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&TopKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl TopKey {
    /// The id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, if the limit keeps names and the key has at most 256 bytes.
    ///
    /// It is a [`Key`](crate::key::Key) for [`LimitControl::key`](crate::layer::LimitControl::key).
    #[must_use]
    pub fn name(&self) -> Option<&KeyName> {
        self.name.as_ref()
    }

    /// The requests, also those that were refused.
    #[must_use]
    pub fn requests(&self) -> Estimate {
        self.requests
    }

    /// The requests that the limit refused, or would have refused if it were enforced.
    #[must_use]
    pub fn refusals(&self) -> Estimate {
        self.refusals
    }
}

impl std::ops::AddAssign for Estimate {
    fn add_assign(&mut self, other: Self) {
        self.at_least += other.at_least;
        self.at_most += other.at_most;
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Debug for TopKeysReport {
    /// Shows numbers and ids, and no names, because these may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopKeysReport")
            .field("since", &self.since)
            .field("requests", &self.requests)
            .field("refusals", &self.refusals)
            .field("keys", &self.keys)
            .finish()
    }
}

impl fmt::Debug for TopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopKey")
            .field("id", &self.id)
            .field("requests", &self.requests)
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}

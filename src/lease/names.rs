//! Ids of leases and reports: no two instances use the same one.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::nonce::Nonce;
use crate::script::LeaseId;

/// Creates ids for one instance.
#[derive(Debug, Default)]
pub(crate) struct NameSource {
    nonce: Nonce,
    counter: AtomicU32,
}

impl NameSource {
    /// Creates a source with a given instance part.
    #[cfg(test)]
    pub(crate) fn with_nonce(nonce: u64) -> Self {
        Self { nonce: Nonce::fixed(nonce), counter: AtomicU32::new(0) }
    }

    /// Returns the source as a forked process inherits it.
    #[cfg(test)]
    pub(crate) fn in_fork(&self) -> Self {
        Self { nonce: self.nonce.in_fork(), counter: self.counter.load(Ordering::Relaxed).into() }
    }

    /// Returns a source with the same ids as this one.
    #[cfg(test)]
    pub(crate) fn twin(&self) -> Self {
        Self { nonce: Nonce::fixed(self.nonce.get()), counter: self.counter.load(Ordering::Relaxed).into() }
    }

    /// Returns an unused id.
    pub(crate) fn next(&self) -> LeaseId {
        LeaseId { nonce: self.nonce.get(), counter: self.counter.fetch_add(1, Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_within_an_instance_and_between_instances() {
        let (one, other) = (NameSource::default(), NameSource::default());
        let (first, second, third) = (one.next(), one.next(), other.next());
        assert_eq!((first.nonce, first.counter + 1), (second.nonce, second.counter));
        assert!(first.nonce != third.nonce && first.nonce != 0);
    }
}

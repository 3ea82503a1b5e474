//! The identity hash for maps whose keys are fingerprints, which are already uniform.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::fingerprint::Fingerprint;

pub(crate) type Prehashed = BuildHasherDefault<PrehashedHasher>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrehashedHasher(u64);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Self::hash(*self));
    }
}

impl Hasher for PrehashedHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Fingerprints do not reach this loop.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

//! Digests that replace a secret.

use sha2::{Digest as _, Sha256};

use crate::key::writer::KeyWriter;

/// Writes a one-way digest of a value: SHA-256 (FIPS 180-4), cut to its first 128 bits.
///
/// The value is hashed with its length. The digest uses no secret, because all processes that share a store must
/// compute the same key.
pub(super) fn write(value: &[u8], out: &mut KeyWriter) {
    let mut hash = Sha256::new();
    hash.update((value.len() as u64).to_le_bytes());
    hash.update(value);
    out.write(&hash.finalize()[..16]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(value: &[u8]) -> Vec<u8> {
        let mut out = KeyWriter::new();
        write(value, &mut out);
        out.as_bytes().to_vec()
    }

    /// This is SHA-256 of 03 00 00 00 00 00 00 00 61 62 63. Other programs that compute keys can rely on it.
    #[test]
    fn the_digest_is_sha_256_of_length_and_value() {
        let expected: [u8; 32] = Sha256::digest(b"\x03\0\0\0\0\0\0\0abc").into();
        assert!(digest(b"abc").ends_with(&expected[..16]));
    }

    proptest! {
        #[test]
        fn a_digest_has_one_length_and_does_not_contain_the_value(value in prop::collection::vec(any::<u8>(), 8..200)) {
            let key = digest(&value);
            prop_assert_eq!(key.len(), digest(b"").len());
            prop_assert!(!key.windows(value.len()).any(|window| window == value));
        }
    }
}

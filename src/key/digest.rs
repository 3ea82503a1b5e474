//! What stands for a secret where the secret itself must not go.

use sha2::{Digest as _, Sha256};

use super::KeyWriter;

/// Writes a one-way digest of a sequence of byte strings: SHA-256 (FIPS 180-4), cut to its first 128 bits.
///
/// Every string is hashed with its length, so that different sequences never hash the same bytes. There is no
/// secret in it: a store that several processes share must see the same key from all of them.
pub(super) fn write<'a>(parts: impl Iterator<Item = &'a [u8]>, out: &mut KeyWriter) {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    out.write(&hash.finalize()[..16]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = KeyWriter::new();
        write(parts.iter().copied(), &mut out);
        out.as_bytes().to_vec()
    }

    /// SHA-256 of 03 00 00 00 00 00 00 00 61 62 63; another program that computes keys can rely on it.
    #[test]
    fn the_digest_is_sha_256_of_length_and_value() {
        let expected: [u8; 32] = Sha256::digest(b"\x03\0\0\0\0\0\0\0abc").into();
        assert!(digest(&[b"abc"]).ends_with(&expected[..16]));
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"abc"]), digest(&[b"abc", b""]));
    }

    proptest! {
        #[test]
        fn a_digest_has_one_length_and_does_not_contain_the_value(value in prop::collection::vec(any::<u8>(), 8..200)) {
            let key = digest(&[&value]);
            prop_assert_eq!(key.len(), digest(&[]).len());
            prop_assert!(!key.windows(value.len()).any(|window| window == value));
        }
    }
}

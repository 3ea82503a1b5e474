//! Key names: prefix, schema version, the key's digest in a hash tag, and the limit's name.
//!
//! An example is `weir:1:{5jKv0dRlAUAv5TMBZPuIWw}:api`. The digest is the first 128 bits of SHA-256 over the key's
//! injective bytes. It is equal on all instances, has a fixed length, and contains no brace. So no client chooses its
//! slot, and no secret reaches the server. The name does not contain the quotas, so a changed limit keeps its history.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::engine::Retention;

/// The version of the value's layout; values of other versions have other names.
const SCHEMA: u32 = 1;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The number of base-64 digits (6 bits each) of the 128-bit digest.
const DIGEST: usize = 22;

/// The names of one limit's keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyNames {
    before: Box<str>,
    after: Box<str>,
}

/// The keys of one limit in Redis: their names, and how long to retain their history.
pub(crate) struct Keyspace {
    pub(crate) names: KeyNames,
    pub(crate) horizon: Retention,
}

impl Keyspace {
    pub(crate) fn new(prefix: &str, limit: Option<&str>) -> Self {
        Self { names: KeyNames::new(prefix, limit), horizon: Retention::new(Retention::WORDS_PER_SPAN) }
    }
}

impl KeyNames {
    /// The names of a limit, or of the engine's own calls if `limit` is `None`.
    pub(super) fn new(prefix: &str, limit: Option<&str>) -> Self {
        let mut after = String::from("}");
        if let Some(limit) = limit {
            let _ = write!(after, ":{limit}");
        }
        Self { before: format!("{prefix}:{SCHEMA}:{{").into(), after: after.into() }
    }

    /// Returns the name for a key's bytes.
    pub(crate) fn name(&self, key: &[u8]) -> Box<[u8]> {
        let hash = Sha256::digest(key);
        let mut name = Vec::with_capacity(self.before.len() + DIGEST + self.after.len());
        name.extend_from_slice(self.before.as_bytes());
        write_digest(&hash[..16], &mut name);
        name.extend_from_slice(self.after.as_bytes());
        name.into_boxed_slice()
    }

    /// Returns a glob pattern that matches all of these names and no others.
    pub(super) fn pattern(&self) -> String {
        let digits = "?".repeat(DIGEST);
        [escape(&self.before).as_str(), &digits, &escape(&self.after)].concat()
    }
}

/// Writes base 64 for URLs without padding (RFC 4648, section 5).
fn write_digest(digest: &[u8], out: &mut Vec<u8>) {
    for chunk in digest.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        let digits = (0..=chunk.len()).map(|at| DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        out.extend(digits);
    }
}

/// Escapes the characters that have a meaning in a glob pattern.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, char| {
        if matches!(char, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(char);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Other programs that compute key names can rely on this test: SHA-256 of "user_123" starts with 80fba0ae1c48.
    #[test]
    fn a_name_is_prefix_version_digest_and_limit() {
        let expected = "weir:1:{gPugrhxI45eOQ-Tvw2XhTg}";
        let name = |limit| String::from_utf8(KeyNames::new("weir", limit).name(b"user_123").into()).unwrap();
        assert_eq!(name(None), expected);
        assert_eq!(name(Some("api")), format!("{expected}:api"));
    }

    #[test]
    fn a_pattern_escapes_the_prefix_and_the_limit() {
        assert_eq!(KeyNames::new("a*b", Some("x[1]")).pattern(), format!("a\\*b:1:{{{}}}:x\\[1\\]", "?".repeat(22)));
    }

    proptest! {
        #[test]
        fn every_key_has_one_hash_tag_of_one_length(key in prop::collection::vec(any::<u8>(), 0..200), limit in ".{0,20}") {
            let name = KeyNames::new("weir", Some(&limit)).name(&key);
            let open = name.iter().position(|&byte| byte == b'{').unwrap();
            let close = name.iter().position(|&byte| byte == b'}').unwrap();
            prop_assert_eq!(close - open - 1, DIGEST);
        }

        #[test]
        fn digests_are_injective(a in any::<[u8; 16]>(), b in any::<[u8; 16]>()) {
            let digits = |digest: &[u8]| { let mut out = Vec::new(); write_digest(digest, &mut out); out };
            prop_assert_eq!(digits(&a) == digits(&b), a == b);
        }
    }
}

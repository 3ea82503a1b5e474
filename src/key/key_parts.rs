//! The values in the bytes of a key, which are read back from what a [`KeyWriter`] wrote.

use std::net::IpAddr;

use super::writer::{Key, KeyWriter, Tag};

/// The values of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyParts {
    /// The values of one key, which is usually one value. A key without values is that of [`Global`](crate::Global).
    One(Vec<KeyPart>),
    /// The values of each of several joined keys.
    Joined(Vec<Vec<KeyPart>>),
}

/// One value of a key. There is a variant for each kind of bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyPart {
    Text(String),
    Bytes(Vec<u8>),
    Ip(IpAddr),
    Unsigned(u64),
    Signed(i128),
    Wide(u128),
    Bool(bool),
    Char(char),
    Unit,
    None,
    Some(Vec<KeyPart>),
    Tuple(Vec<Vec<KeyPart>>),
    /// In place of the key of a request without one.
    Missing,
}

/// The deepest nesting that is read.
const DEEPEST: usize = 64;

impl KeyParts {
    /// Reads bytes. Returns `None` for bytes that no value of this type [writes](Key::write_to).
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut joined = Vec::new();
        loop {
            let values = reader.values(DEEPEST)?;
            match (reader.next(), values.is_empty()) {
                (Some(_), _) => joined.push(values),
                (None, _) if joined.is_empty() => return Some(Self::One(values)),
                (None, true) => return Some(Self::Joined(joined)),
                (None, false) => return None,
            }
        }
    }
}

impl Key for KeyParts {
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            Self::One(values) => values.iter().for_each(|value| out.write(value)),
            Self::Joined(parts) => parts.iter().for_each(|values| write_ended(values, out)),
        }
    }
}

impl Key for KeyPart {
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            Self::Text(value) => out.write(value),
            Self::Bytes(value) => out.write(value),
            Self::Ip(value) => out.write(value),
            Self::Unsigned(value) => out.write(value),
            Self::Signed(value) => out.write(value),
            Self::Wide(value) => out.write(value),
            Self::Bool(value) => out.write(value),
            Self::Char(value) => out.write(value),
            Self::Unit => out.write(&()),
            Self::None => out.write(&None::<()>),
            Self::Some(values) => {
                out.tagged(Tag::Some, []);
                write_ended(values, out);
            }
            Self::Tuple(parts) => {
                out.tagged(Tag::Tuple, [u8::try_from(parts.len()).unwrap_or(u8::MAX)]);
                parts.iter().for_each(|values| write_ended(values, out));
            }
            Self::Missing => out.missing(),
        }
    }
}

fn write_ended(values: &[KeyPart], out: &mut KeyWriter) {
    values.iter().for_each(|value| out.write(value));
    out.end();
}

/// The bytes that were not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The values up to the next end of a part, or to the end of the bytes.
    fn values(&mut self, depth: usize) -> Option<Vec<KeyPart>> {
        let mut values = Vec::new();
        while self.0.first().is_some_and(|tag| *tag != Tag::End as u8) {
            values.push(self.value(depth)?);
        }
        Some(values)
    }

    /// The values before the end of a part, which is read too.
    fn ended(&mut self, depth: usize) -> Option<Vec<KeyPart>> {
        let values = self.values(depth.checked_sub(1)?)?;
        self.next().map(|_| values)
    }

    fn value(&mut self, depth: usize) -> Option<KeyPart> {
        const TEXT: u8 = Tag::Text as u8;
        const V4: u8 = Tag::V4 as u8;
        const V6: u8 = Tag::V6 as u8;
        const UNSIGNED: u8 = Tag::Unsigned64 as u8;
        const SIGNED: u8 = Tag::Signed128 as u8;
        const BOOL: u8 = Tag::Bool as u8;
        const NONE: u8 = Tag::None as u8;
        const SOME: u8 = Tag::Some as u8;
        const MISSING: u8 = Tag::Missing as u8;
        const BYTES: u8 = Tag::Bytes as u8;
        const WIDE: u8 = Tag::Unsigned128 as u8;
        const CHAR: u8 = Tag::Char as u8;
        const UNIT: u8 = Tag::Unit as u8;
        const TUPLE: u8 = Tag::Tuple as u8;
        Some(match self.next()? {
            TEXT => KeyPart::Text(std::str::from_utf8(self.counted()?).ok()?.to_owned()),
            BYTES => KeyPart::Bytes(self.counted()?.to_vec()),
            V4 => KeyPart::Ip(IpAddr::from(*self.array::<4>()?)),
            V6 => KeyPart::Ip(IpAddr::from(*self.array::<16>()?)),
            UNSIGNED => KeyPart::Unsigned(u64::from_le_bytes(*self.array()?)),
            SIGNED => KeyPart::Signed(i128::from_le_bytes(*self.array()?)),
            WIDE => KeyPart::Wide(u128::from_le_bytes(*self.array()?)),
            BOOL => match self.next()? {
                0 => KeyPart::Bool(false),
                1 => KeyPart::Bool(true),
                _ => return None,
            },
            CHAR => KeyPart::Char(char::from_u32(u32::from_le_bytes(*self.array()?))?),
            UNIT => KeyPart::Unit,
            NONE => KeyPart::None,
            SOME => KeyPart::Some(self.ended(depth)?),
            TUPLE => {
                let count = self.next()?;
                KeyPart::Tuple((0..count).map(|_| self.ended(depth)).collect::<Option<_>>()?)
            }
            MISSING => KeyPart::Missing,
            _ => return None,
        })
    }

    fn next(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn array<const N: usize>(&mut self) -> Option<&[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    /// The bytes after their number.
    fn counted(&mut self) -> Option<&[u8]> {
        let len = usize::try_from(u64::from_le_bytes(*self.array()?)).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::{parts, written};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_key_is_read_back(parts in parts()) {
            prop_assert_eq!(KeyParts::read(&written(&parts)), Some(parts));
        }

        /// Whatever is read writes the same bytes.
        #[test]
        fn no_bytes_panic_or_change(
            parts in parts(),
            at in any::<prop::sample::Index>(),
            byte in 0..20_u8,
            random in prop::collection::vec(0..20_u8, 0..40),
        ) {
            let mut changed = written(&parts);
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            for bytes in [changed, random] {
                if let Some(read) = KeyParts::read(&bytes) {
                    prop_assert_eq!(written(&read), bytes);
                }
            }
        }
    }

    #[test]
    fn deep_nesting_is_not_read() {
        let nested = |depth: usize| (0..depth).fold(KeyPart::Unit, |inner, _| KeyPart::Some(vec![inner]));
        assert!(KeyParts::read(&written(&nested(DEEPEST))).is_some());
        assert_eq!(KeyParts::read(&written(&nested(DEEPEST + 1))), None);
        assert_eq!(KeyParts::read(&vec![Tag::Some as u8; 100_000]), None);
    }
}

//! How a key's values become bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Key bytes up to this many are written without allocating.
const INLINE: usize = 64;

/// Collects the bytes of a key.
///
/// Each value is written with its type and, where that varies, its length, so that different values, and
/// different sequences of values, never give the same bytes.
pub struct KeyWriter {
    inline: [u8; INLINE],
    len: usize,
    /// Holds everything once the inline part is full.
    spilled: Vec<u8>,
}

impl KeyWriter {
    /// Creates an empty writer; it allocates only for keys above 64 bytes.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spilled: Vec::new() }
    }

    /// Writes a value.
    #[inline]
    pub fn write<K: Key + ?Sized>(&mut self, value: &K) {
        value.write_to(self);
    }

    /// Ends one part among several, which may have written any number of values.
    pub(super) fn end(&mut self) {
        self.tagged(Tag::End, &[]);
    }

    /// Writes what stands for a missing key, and for nothing else.
    pub(crate) fn missing(&mut self) {
        self.tagged(Tag::Missing, &[]);
    }

    /// The bytes written so far.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }

    fn tagged(&mut self, tag: Tag, bytes: &[u8]) {
        self.raw(&[tag as u8]);
        self.raw(bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.inline.get_mut(self.len..end).filter(|_| self.spilled.is_empty()) {
            room.copy_from_slice(bytes);
            self.len = end;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.len]);
        }
        self.spilled.extend_from_slice(bytes);
    }
}

impl Default for KeyWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyWriter {
    /// Keys may be secret: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWriter").field("len", &self.as_bytes().len()).finish_non_exhaustive()
    }
}

/// The first byte of a value. Every kind has a fixed length or states its own, so no sequence of values is
/// the beginning of another.
#[repr(u8)]
#[derive(Clone, Copy)]
enum Tag {
    /// Eight bytes of length follow.
    Bytes = 1,
    V4,
    V6,
    Socket,
    Int64,
    Int128,
    Bool,
    None,
    Some,
    End,
    Missing,
}

/// A value that can be a key, or a part of one.
///
/// Implement it by writing the parts of which your type is made.
pub trait Key {
    /// Writes the value.
    fn write_to(&self, out: &mut KeyWriter);
}

impl Key for [u8] {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Bytes, &(self.len() as u64).to_le_bytes());
        out.raw(self);
    }
}

impl Key for str {
    fn write_to(&self, out: &mut KeyWriter) {
        self.as_bytes().write_to(out);
    }
}

impl Key for String {
    fn write_to(&self, out: &mut KeyWriter) {
        self.as_bytes().write_to(out);
    }
}

impl Key for Vec<u8> {
    fn write_to(&self, out: &mut KeyWriter) {
        self.as_slice().write_to(out);
    }
}

impl Key for IpAddr {
    /// As it stands: neither an IPv4-mapped address nor a prefix is folded.
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            Self::V4(v4) => out.tagged(Tag::V4, &v4.octets()),
            Self::V6(v6) => out.tagged(Tag::V6, &v6.octets()),
        }
    }
}

impl Key for SocketAddr {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Socket, &self.port().to_le_bytes());
        self.ip().write_to(out);
    }
}

macro_rules! integer_keys {
    ($($int:ty as $wide:ty => $tag:expr),* $(,)?) => {$(
        impl Key for $int {
            fn write_to(&self, out: &mut KeyWriter) {
                out.tagged($tag, &<$wide>::from(*self).to_le_bytes());
            }
        }
    )*};
}

integer_keys! {
    u8 as u64 => Tag::Int64, u16 as u64 => Tag::Int64, u32 as u64 => Tag::Int64, u64 as u64 => Tag::Int64,
    i8 as i128 => Tag::Int128, i16 as i128 => Tag::Int128, i32 as i128 => Tag::Int128, i64 as i128 => Tag::Int128,
    i128 as i128 => Tag::Int128,
}

impl Key for u128 {
    fn write_to(&self, out: &mut KeyWriter) {
        self.to_le_bytes().as_slice().write_to(out);
    }
}

impl Key for bool {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Bool, &[u8::from(*self)]);
    }
}

impl<K: Key> Key for Option<K> {
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            None => out.tagged(Tag::None, &[]),
            Some(value) => {
                out.tagged(Tag::Some, &[]);
                value.write_to(out);
            }
        }
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn write_to(&self, out: &mut KeyWriter) {
        (**self).write_to(out);
    }
}

macro_rules! tuple_keys {
    ($($name:ident),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[allow(non_snake_case)]
            fn write_to(&self, out: &mut KeyWriter) {
                let ($($name,)+) = self;
                $($name.write_to(out); out.end();)+
            }
        }
    };
}

tuple_keys!(A);
tuple_keys!(A, B);
tuple_keys!(A, B, C);
tuple_keys!(A, B, C, D);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Part {
        Bytes(Vec<u8>),
        Ip(IpAddr),
        Socket(SocketAddr),
        Int(u64),
        Signed(i64),
        Bool(bool),
        Maybe(Option<u8>),
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            prop::collection::vec(0_u8..10, 0..80).prop_map(Part::Bytes),
            any::<IpAddr>().prop_map(Part::Ip),
            any::<SocketAddr>().prop_map(|addr| Part::Socket(SocketAddr::new(addr.ip(), addr.port()))),
            (0_u64..10).prop_map(Part::Int),
            (-5_i64..5).prop_map(Part::Signed),
            any::<bool>().prop_map(Part::Bool),
            prop::option::of(0_u8..3).prop_map(Part::Maybe),
        ]
    }

    fn bytes(parts: &[Part]) -> Vec<u8> {
        let mut out = KeyWriter::new();
        for part in parts {
            match part {
                Part::Bytes(value) => out.write(value),
                Part::Ip(value) => out.write(value),
                Part::Socket(value) => out.write(value),
                Part::Int(value) => out.write(value),
                Part::Signed(value) => out.write(value),
                Part::Bool(value) => out.write(value),
                Part::Maybe(value) => out.write(value),
            }
        }
        out.as_bytes().to_vec()
    }

    proptest! {
        #[test]
        fn sequences_of_values_are_injective(
            a in prop::collection::vec(part(), 0..5),
            b in prop::collection::vec(part(), 0..5),
        ) {
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
            // No sequence is the beginning of another one with a different first part.
            if !a.is_empty() && !b.is_empty() && a[0] != b[0] {
                let (a, b) = (bytes(&a[..1]), bytes(&b));
                prop_assert!(!b.starts_with(&a));
            }
        }

        #[test]
        fn spilling_changes_nothing(long in prop::collection::vec(any::<u8>(), 0..200), n in any::<u64>()) {
            let mut out = KeyWriter::new();
            out.write(&n);
            out.write(&long);
            let mut expected = vec![Tag::Int64 as u8];
            expected.extend(n.to_le_bytes());
            expected.push(Tag::Bytes as u8);
            expected.extend((long.len() as u64).to_le_bytes());
            expected.extend(&long);
            prop_assert_eq!(out.as_bytes(), expected);
        }
    }

    /// Writes any number of parts, as a key of the user's own may.
    struct Path<'a>(&'a [&'a str]);

    impl Key for Path<'_> {
        fn write_to(&self, out: &mut KeyWriter) {
            self.0.iter().for_each(|part| out.write(part));
        }
    }

    #[test]
    fn tuples_keep_their_members_apart() {
        let bytes = |key: (Path<'_>, Path<'_>)| {
            let mut out = KeyWriter::new();
            out.write(&key);
            out.as_bytes().to_vec()
        };
        assert_ne!(bytes((Path(&["a", "b"]), Path(&["c"]))), bytes((Path(&["a"]), Path(&["b", "c"]))));
    }

    #[test]
    fn joined_strings_do_not_run_together() {
        assert_ne!(
            bytes(&[Part::Bytes(b"ab".to_vec()), Part::Bytes(b"c".to_vec())]),
            bytes(&[Part::Bytes(b"a".to_vec()), Part::Bytes(b"bc".to_vec())])
        );
    }
}

//! The values that can be keys; see [`Key`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::writer::{Key, KeyWriter, Tag};

impl Key for str {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Text, (self.len() as u64).to_le_bytes());
        out.raw(self.as_bytes());
    }
}

impl Key for [u8] {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Bytes, (self.len() as u64).to_le_bytes());
        out.raw(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    fn write_to(&self, out: &mut KeyWriter) {
        self.as_slice().write_to(out);
    }
}

macro_rules! keys_by {
    ($($method:ident: $($type:ty),+;)*) => {$($(
        impl Key for $type {
            fn write_to(&self, out: &mut KeyWriter) {
                self.$method().write_to(out);
            }
        }
    )+)*};
}

keys_by! {
    as_str: String, Method, HeaderName;
    as_slice: Vec<u8>;
    as_ref: Bytes;
    as_bytes: HeaderValue;
    get: NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize, NonZeroU128;
    get: NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroIsize, NonZeroI128;
}

impl Key for Ipv4Addr {
    #[inline]
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::V4, self.octets());
    }
}

impl Key for Ipv6Addr {
    /// The whole address. An IPv4-mapped address is another key than the IPv4 address.
    #[inline]
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::V6, self.octets());
    }
}

impl Key for IpAddr {
    /// The whole address. An IPv4-mapped address is another key than the IPv4 address.
    #[inline]
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            Self::V4(v4) => v4.write_to(out),
            Self::V6(v6) => v6.write_to(out),
        }
    }
}

macro_rules! integer_keys {
    ($($tag:ident $wide:ty: $($int:ty),+;)*) => {$($(
        impl Key for $int {
            fn write_to(&self, out: &mut KeyWriter) {
                out.tagged(Tag::$tag, (*self as $wide).to_le_bytes());
            }
        }
    )+)*};
}

integer_keys! {
    Unsigned64 u64: u8, u16, u32, u64, usize;
    Signed128 i128: i8, i16, i32, i64, isize, i128;
    Unsigned128 u128: u128;
    Char u32: char;
    Bool u8: bool;
}

impl Key for () {
    fn write_to(&self, out: &mut KeyWriter) {
        out.tagged(Tag::Unit, []);
    }
}

impl<K: Key> Key for Option<K> {
    fn write_to(&self, out: &mut KeyWriter) {
        match self {
            None => out.tagged(Tag::None, []),
            Some(value) => {
                out.tagged(Tag::Some, []);
                value.write_to(out);
                out.end();
            }
        }
    }
}

macro_rules! pointer_keys {
    ($($pointer:ty),+) => {$(
        impl<K: Key + ?Sized> Key for $pointer {
            fn write_to(&self, out: &mut KeyWriter) {
                (**self).write_to(out);
            }
        }
    )+};
}

pointer_keys!(&K, Box<K>, Rc<K>, Arc<K>);

impl<K: Key + ToOwned + ?Sized> Key for Cow<'_, K> {
    fn write_to(&self, out: &mut KeyWriter) {
        (**self).write_to(out);
    }
}

macro_rules! tuple_keys {
    ($($count:literal: $($name:ident)+;)+) => {$(
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[allow(non_snake_case)]
            fn write_to(&self, out: &mut KeyWriter) {
                let ($($name,)+) = self;
                out.tagged(Tag::Tuple, [$count]);
                $($name.write_to(out); out.end();)+
            }
        }
    )+};
}

tuple_keys! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::written;

    /// One kind for each distinct encoding. The values are small, so that a collision would be found.
    #[derive(Clone, Debug, PartialEq)]
    enum Part {
        Text(String),
        Bytes(Vec<u8>),
        Ip(IpAddr),
        Unsigned(u64),
        Signed(i128),
        Wide(u128),
        Bool(bool),
        Char(char),
        Unit,
        Maybe(Option<Box<Part>>),
        Pair(Box<(Part, Part)>),
        Alone(Box<Part>),
    }

    impl Key for Part {
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
                Self::Maybe(value) => out.write(value),
                Self::Pair(pair) => out.write(&**pair),
                Self::Alone(value) => out.write(&(&**value,)),
            }
        }
    }

    /// Short byte sequences that contain tags, also in the lengths of integers.
    fn few() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(0_u8..18, 0..40),
            prop::collection::vec(Just(0_u8), 16),
            prop::collection::vec(Just(b'a'), 16),
            prop::collection::vec(Just(0_u8), 8),
        ]
    }

    fn part() -> impl Strategy<Value = Part> {
        let text = few().prop_map(|bytes| Part::Text(String::from_utf8(bytes).unwrap()));
        let leaf = prop_oneof![
            text,
            few().prop_map(Part::Bytes),
            any::<IpAddr>().prop_map(Part::Ip),
            (0_u64..10).prop_map(Part::Unsigned),
            (-5_i128..5).prop_map(Part::Signed),
            (0_u128..5).prop_map(Part::Wide),
            Just(Part::Wide(u128::from_le_bytes(*b"aaaaaaaaaaaaaaaa"))),
            any::<bool>().prop_map(Part::Bool),
            (0_u8..5).prop_map(|byte| Part::Char(byte.into())),
            Just(Part::Unit),
            Just(Part::Maybe(None)),
        ];
        leaf.prop_recursive(2, 6, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Part::Maybe(Some(Box::new(part)))),
                (inner.clone(), inner.clone()).prop_map(|pair| Part::Pair(Box::new(pair))),
                inner.prop_map(|part| Part::Alone(Box::new(part))),
            ]
        })
    }

    fn bytes(parts: &[Part]) -> Vec<u8> {
        let mut out = KeyWriter::new();
        parts.iter().for_each(|part| out.write(part));
        out.as_bytes().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn sequences_of_values_are_injective(
            a in prop::collection::vec(part(), 0..4),
            b in prop::collection::vec(part(), 0..4),
        ) {
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
            // No sequence is a prefix of another one with a different first part.
            if !a.is_empty() && !b.is_empty() && a[0] != b[0] {
                let (a, b) = (bytes(&a[..1]), bytes(&b));
                prop_assert!(!b.starts_with(&a));
            }
        }

        #[test]
        fn spilling_changes_nothing(long in prop::collection::vec(any::<u8>(), 0..200), n in any::<u64>()) {
            let mut expected = vec![Tag::Unsigned64 as u8];
            expected.extend(n.to_le_bytes());
            expected.push(Tag::Bytes as u8);
            expected.extend((long.len() as u64).to_le_bytes());
            expected.extend(&long);
            prop_assert_eq!(bytes(&[Part::Unsigned(n), Part::Bytes(long)]), expected);
        }
    }

    /// One value of each kind, all made of the same bytes if possible.
    #[test]
    fn values_of_different_kinds_are_different_keys() {
        let keys = [
            written("ponmlkjihgfedcba"),
            written(b"ponmlkjihgfedcba"),
            written(&u128::from_le_bytes(*b"ponmlkjihgfedcba")),
            written(&i128::from_le_bytes(*b"ponmlkjihgfedcba")),
            written(&Ipv6Addr::from(*b"ponmlkjihgfedcba")),
            written("ponmlkji"),
            written(b"ponmlkji"),
            written(&u64::from_le_bytes(*b"ponmlkji")),
            written(&i64::from_le_bytes(*b"ponmlkji")),
            written("ponm"),
            written(b"ponm"),
            written(&Ipv4Addr::from(*b"ponm")),
            written(&u32::from_le_bytes(*b"ponm")),
            written(&'a'),
            written("a"),
            written(&1_u8),
            written(&1_i8),
            written(&1_u128),
            written(&true),
            written(&()),
            written(&None::<u8>),
            written(&Some(1_u8)),
            written(&(1_u8,)),
            written(&((1_u8,),)),
            written(&(1_u8, 1_u8)),
            written(&((1_u8, 1_u8), 1_u8)),
            written(&(1_u8, (1_u8, 1_u8))),
            written(&(1_u8, 1_u8, 1_u8)),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
    }

    #[test]
    fn the_types_of_one_value_are_one_key() {
        let text: [Vec<u8>; 9] = [
            written("GET"),
            written(&"GET"),
            written(&"GET".to_owned()),
            written(&Box::<str>::from("GET")),
            written(&Arc::<str>::from("GET")),
            written(&Rc::<str>::from("GET")),
            written(&Cow::Borrowed("GET")),
            written(&Cow::<str>::Owned("GET".to_owned())),
            written(&Method::GET),
        ];
        assert!(text.iter().all(|key| *key == text[0]));
        let bytes = [
            written(b"GET"),
            written(&b"GET"[..]),
            written(&b"GET".to_vec()),
            written(&Bytes::from("GET")),
            written(&HeaderValue::from_static("GET")),
        ];
        assert!(bytes.iter().all(|key| *key == bytes[0]));
        assert_eq!(written(&HeaderName::from_static("host")), written("host"));
        let unsigned = [written(&7_u8), written(&7_u16), written(&7_u32), written(&7_u64), written(&7_usize)];
        assert!(unsigned.iter().all(|key| *key == unsigned[0]));
        assert_eq!(written(&NonZeroU64::MIN), written(&1_u8));
        assert_eq!(written(&NonZeroU128::MIN), written(&1_u128));
        let signed = [written(&-7_i8), written(&-7_i16), written(&-7_i32), written(&-7_i64), written(&-7_isize)];
        assert!(signed.iter().all(|key| *key == written(&-7_i128)));
        assert_eq!(written(&NonZeroI8::MIN), written(&-128_isize));
        let v4 = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(written(&v4), written(&IpAddr::V4(v4)));
        assert_eq!(written(&v4.to_ipv6_mapped()), written(&IpAddr::V6(v4.to_ipv6_mapped())));
    }

    /// Writes any number of parts, as a custom key may.
    struct Path<'a>(&'a [&'a str]);

    impl Key for Path<'_> {
        fn write_to(&self, out: &mut KeyWriter) {
            self.0.iter().for_each(|part| out.write(part));
        }
    }

    #[test]
    fn tuples_and_options_keep_their_members_apart() {
        assert_ne!(written(&(Path(&["a", "b"]), Path(&["c"]))), written(&(Path(&["a"]), Path(&["b", "c"]))));
        let mut out = KeyWriter::new();
        out.write(&Some(Path(&["a"])));
        out.write("b");
        assert_ne!(written(&Some(Path(&["a", "b"]))), out.as_bytes());
    }
}

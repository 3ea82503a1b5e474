//! Helpers for the tests of the keys.

use std::net::IpAddr;

use http::Request;
use proptest::prelude::*;

use crate::key::extractor::KeyExtractor;
use crate::key::key_parts::{KeyPart, KeyParts};
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::Key;
use crate::key::writer::KeyWriter;

pub(super) fn request(target: &str) -> Request<()> {
    Request::get(target).body(()).unwrap()
}

/// The bytes of a request's key. The request must have one.
pub(super) fn bytes(key: &impl KeyExtractor, request: &Request<()>) -> Vec<u8> {
    let mut out = KeyWriter::new();
    key.key(&RequestView::new(request), &mut out).unwrap();
    out.as_bytes().to_vec()
}

/// The reason why a request has no key.
pub(super) fn missing(key: &impl KeyExtractor, request: &Request<()>) -> MissingKey {
    key.key(&RequestView::new(request), &mut KeyWriter::new()).unwrap_err()
}

/// The bytes of a key of one value.
pub(super) fn written<K: Key + ?Sized>(value: &K) -> Vec<u8> {
    let mut out = KeyWriter::new();
    out.write(value);
    out.as_bytes().to_vec()
}

fn part() -> impl Strategy<Value = KeyPart> {
    let leaf = prop_oneof![
        "[a-z]{0,9}|\\PC{0,9}|(\u{1}|\u{a}|\u{0}|a){0,20}".prop_map(KeyPart::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(KeyPart::Bytes),
        any::<IpAddr>().prop_map(KeyPart::Ip),
        any::<u64>().prop_map(KeyPart::Unsigned),
        (0..100_u64).prop_map(KeyPart::Unsigned),
        any::<i128>().prop_map(KeyPart::Signed),
        (-100..100_i128).prop_map(KeyPart::Signed),
        any::<u128>().prop_map(KeyPart::Wide),
        any::<bool>().prop_map(KeyPart::Bool),
        any::<char>().prop_map(KeyPart::Char),
        Just(KeyPart::Unit),
        Just(KeyPart::None),
        Just(KeyPart::Missing),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let values = prop::collection::vec(inner, 0..3);
        prop_oneof![
            values.clone().prop_map(KeyPart::Some),
            prop::collection::vec(values, 0..4).prop_map(KeyPart::Tuple),
        ]
    })
}

/// Any key that is made of the values of [`KeyPart`].
pub(crate) fn parts() -> impl Strategy<Value = KeyParts> {
    let values = || prop::collection::vec(part(), 0..3);
    prop_oneof![values().prop_map(KeyParts::One), prop::collection::vec(values(), 1..4).prop_map(KeyParts::Joined)]
}

//! Helpers for the tests of the keys.

use http::Request;

use crate::key::extractor::KeyExtractor;
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

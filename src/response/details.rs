//! `grpc-status-details-bin`: a `google.rpc.Status` with the details of the refusal, in base64.
//!
//! This module encodes the messages itself, because there are only four small ones, and the code then works with every
//! version of tonic. A proto3 message is a sequence of fields, each a tag (field number x 8 + wire type) and a value.
//! Fields that are zero or empty are omitted. Wire type 0 is a varint, and wire type 2 is a length and that many
//! bytes.

use std::time::Duration;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// One violated quota: its name and its limit.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) subject: String,
    pub(super) description: String,
}

/// A `google.rpc.Status` with a `RetryInfo` if a wait helps, and a `QuotaFailure` if quotas are violated.
pub(super) fn status<'a>(
    code: u8,
    message: &str,
    retry_delay: Option<Duration>,
    violations: impl IntoIterator<Item = &'a Violation>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    if code > 0 {
        out.extend([0x08, code]);
    }
    string(&mut out, 0x12, message);
    if let Some(delay) = retry_delay {
        any(&mut out, RETRY_INFO, |info| {
            retry_info(info, delay);
        });
    }
    let mut violations = violations.into_iter().peekable();
    if violations.peek().is_some() {
        any(&mut out, "type.googleapis.com/google.rpc.QuotaFailure", |failure| {
            for violation in violations {
                nested(failure, 0x0a, |it| {
                    string(it, 0x0a, &violation.subject);
                    string(it, 0x12, &violation.description);
                });
            }
        });
    }
    out
}

/// One of the status's `details`: a `google.protobuf.Any`.
fn any(out: &mut Vec<u8>, type_url: &str, value: impl FnOnce(&mut Vec<u8>)) {
    nested(out, 0x1a, |any| {
        string(any, 0x0a, type_url);
        nested(any, 0x12, value);
    });
}

/// Writes a field that contains a message. The message is written first and then moved behind its tag and length.
fn nested(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let end = out.len();
    out.push(tag);
    varint(out, (end - start) as u64);
    let head = out.len() - end;
    if let Some(field) = out.get_mut(start..) {
        field.rotate_right(head);
    }
}

fn string(out: &mut Vec<u8>, tag: u8, text: &str) {
    if !text.is_empty() {
        out.push(tag);
        varint(out, text.len() as u64);
        out.extend(text.bytes());
    }
}

fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value > 0 {
        out.push(tag);
        varint(out, value);
    }
}

/// Writes seven bits per byte, the lowest first. All bytes but the last have the top bit set.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 (RFC 4648 section 4) without padding, as gRPC sends binary metadata.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity((4 * bytes.len()).div_ceil(3));
    let digit = |bits: u32, at: u32| ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
    let (chunks, rest) = bytes.as_chunks();
    for &[a, b, c] in chunks {
        let bits = u32::from_be_bytes([0, a, b, c]);
        text.extend_from_slice(&[digit(bits, 0), digit(bits, 1), digit(bits, 2), digit(bits, 3)]);
    }
    match *rest {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            text.extend_from_slice(&[digit(bits, 0), digit(bits, 1)]);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            text.extend_from_slice(&[digit(bits, 0), digit(bits, 1), digit(bits, 2)]);
        }
        _ => {}
    }
    // All digits are ASCII.
    String::from_utf8(text).unwrap_or_default()
}

fn retry_info(out: &mut Vec<u8>, delay: Duration) {
    nested(out, 0x0a, |duration| {
        number(duration, 0x08, delay.as_secs());
        number(duration, 0x10, delay.subsec_nanos().into());
    });
}

/// The field's value with a `RetryInfo` of at least `delay`.
///
/// Returns `None` if nothing changes: the value has no `RetryInfo`, has as long a wait, or is unreadable.
pub(super) fn raise_delay(value: &[u8], delay: Duration) -> Option<String> {
    let status = from_base64(value)?;
    let mut out = Vec::with_capacity(status.len() + 8);
    let (mut rest, mut is_raised) = (&*status, false);
    while !rest.is_empty() {
        let field = Field::read(rest)?;
        if field.tag == 0x1a && stated_delay(field.value).is_some_and(|stated| stated < delay) {
            any(&mut out, RETRY_INFO, |info| retry_info(info, delay));
            is_raised = true;
        } else {
            out.extend_from_slice(rest.get(..rest.len() - field.rest.len())?);
        }
        rest = field.rest;
    }
    is_raised.then(|| base64(&out))
}

/// The delay of an `Any`, if it is a `RetryInfo`.
fn stated_delay(any: &[u8]) -> Option<Duration> {
    let is_retry_info = Field::find(any, 0x0a)?.value == RETRY_INFO.as_bytes();
    let info = is_retry_info.then(|| Field::find(any, 0x12))?.map_or(&[][..], |it| it.value);
    let duration = Field::find(info, 0x0a).map_or(&[][..], |it| it.value);
    let number = |tag| Field::find(duration, tag).map_or(0, |it| it.number);
    Some(Duration::new(number(0x08), u32::try_from(number(0x10)).ok()?.min(999_999_999)))
}

/// One field of a message. Tags above 127 are parsed but never searched for.
struct Field<'a> {
    tag: u64,
    /// The value, for wire type 0.
    number: u64,
    /// The value, for wire type 2.
    value: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Field<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, bytes) = read_varint(bytes)?;
        let fixed = |len| bytes.split_at_checked(len);
        let (number, (value, rest)) = match tag & 7 {
            0 => read_varint(bytes).map(|(number, rest)| (number, (&[][..], rest)))?,
            1 => (0, fixed(8)?),
            2 => {
                let (len, bytes) = read_varint(bytes)?;
                (0, bytes.split_at_checked(usize::try_from(len).ok()?)?)
            }
            5 => (0, fixed(4)?),
            _ => return None,
        };
        Some(Self { tag, number, value, rest })
    }

    fn find(mut bytes: &'a [u8], tag: u64) -> Option<Self> {
        loop {
            let field = Self::read(bytes)?;
            if field.tag == tag {
                return Some(field);
            }
            bytes = field.rest;
        }
    }
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte < 0x80 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Decodes base64, with or without padding.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.chunks(4) {
        let mut bits = 0;
        for &digit in chunk {
            let position = ALPHABET.iter().position(|it| *it == digit)?;
            bits = bits << 6 | position as u32;
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend((1..chunk.len()).map(|byte| (bits >> (24 - 8 * byte)) as u8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes that Google's protobuf runtime writes.
    #[test]
    fn golden_vectors() {
        let a = status(8, "rate limit exceeded", ms(1_500), []);
        assert_eq!(a.len(), 79);
        assert_eq!(
            hex(&a),
            "0808121372617465206c696d69742065786365656465641a360a28747970652e676f6f676c65617069732e636f6d2f676f6f67\
             6c652e7270632e5265747279496e666f120a0a0808011080cab5ee01"
        );
        const A: &str = "CAgSE3JhdGUgbGltaXQgZXhjZWVkZWQaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIK\
                         CggIARCAyrXuAQ";
        assert_eq!(base64(&a), A);

        let violation = Violation { subject: "policy:default".into(), description: "limit 100 per 60s".into() };
        let b = status(8, "rate limit exceeded", ms(1_500), [&violation]);
        assert_eq!(b.len(), 165);
        assert_eq!(
            base64(&b),
            "CAgSE3JhdGUgbGltaXQgZXhjZWVkZWQaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIARCAyrXu\
             ARpUCit0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUXVvdGFGYWlsdXJlEiUKIwoOcG9saWN5OmRlZmF1bHQSEWxpbWl0IDEw\
             MCBwZXIgNjBz"
        );

        let c = status(14, "overloaded", ms(250), []);
        assert_eq!(c.len(), 67);
        assert_eq!(
            base64(&c),
            "CA4SCm92ZXJsb2FkZWQaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgOWadw"
        );

        let d = status(8, "", ms(0), []);
        assert_eq!(d.len(), 50);
        assert_eq!(base64(&d), "CAgaLgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxICCgA");
    }

    #[test]
    fn delays_are_not_rounded() {
        for (delay, want) in
            [(1_500, "0a0808011080cab5ee01"), (37_000, "0a020825"), (0, "0a00"), (300_000, "0a0308ac02")]
        {
            assert!(hex(&status(8, "", ms(delay), [])).ends_with(want), "{delay}");
        }
        // Messages of any length cause no panic.
        let long = Violation { subject: "s".repeat(70_000), description: String::new() };
        assert!(status(8, &"m".repeat(70_000), Some(Duration::MAX), [&long; 3]).len() > 280_000);
    }

    /// The test vectors of RFC 4648 section 10, without their padding.
    #[test]
    fn base64_equals_the_test_vectors() {
        for (bytes, want) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), want);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    proptest::proptest! {
        #[test]
        fn base64_reads_back(bytes: Vec<u8>) {
            proptest::prop_assert_eq!(from_base64(base64(&bytes).as_bytes()), Some(bytes));
        }

        /// The value comes from an inner service, so it may be any bytes. No bytes may prevent the response.
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, cut in 0_usize..200) {
            let _ = raise_delay(base64(&bytes).as_bytes(), Duration::from_secs(1));
            let _ = raise_delay(&bytes, Duration::from_secs(1));
            let mut sent = status(8, "m", Some(Duration::from_millis(1)), []);
            sent.truncate(cut);
            let _ = raise_delay(base64(&sent).as_bytes(), Duration::from_secs(1));
        }
    }
}

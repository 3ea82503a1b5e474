//! `grpc-status-details-bin`: a `google.rpc.Status` with what is known about the refusal, in base64.
//!
//! Written by hand, since it is four small messages and serves every version of tonic. A proto3 message is
//! a sequence of fields, each a tag (field number x 8 + wire type) and a value; fields that are zero or empty
//! are left out. Wire type 0 is a varint, 2 is a length and that many bytes.

use std::time::Duration;

/// One violated quota: who is limited by it, and by how much.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) subject: String,
    pub(super) description: String,
}

/// A `google.rpc.Status` with a `RetryInfo` where a wait helps, and a `QuotaFailure` where quotas failed.
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
        any(&mut out, "type.googleapis.com/google.rpc.RetryInfo", |info| {
            nested(info, 0x0a, |duration| {
                number(duration, 0x08, delay.as_secs());
                number(duration, 0x10, delay.subsec_nanos().into());
            });
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

/// A field that holds a message, written first and then moved behind its tag and length.
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

/// Seven bits to a byte, the lowest first; all but the last have the top bit set.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Standard base64 (RFC 4648 section 4) without padding, as gRPC sends binary metadata.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        // n bytes fill n + 1 digits.
        text.extend((0..=chunk.len()).map(|digit| char::from(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63])));
    }
    text
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
    fn delays_are_written_as_they_are() {
        for (delay, want) in
            [(1_500, "0a0808011080cab5ee01"), (37_000, "0a020825"), (0, "0a00"), (300_000, "0a0308ac02")]
        {
            assert!(hex(&status(8, "", ms(delay), [])).ends_with(want), "{delay}");
        }
        // No panic, whatever the length.
        let long = Violation { subject: "s".repeat(70_000), description: String::new() };
        assert!(status(8, &"m".repeat(70_000), Some(Duration::MAX), [&long; 3]).len() > 280_000);
    }

    /// The test vectors of RFC 4648 section 10, without their padding.
    #[test]
    fn base64_is_the_standard_one() {
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
}

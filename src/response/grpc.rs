//! A refusal in gRPC. It is trailers-only: the headers contain the status, and the stream ends with them.
//!
//! The HTTP status is 200. Clients treat an HTTP error as UNAVAILABLE, and many retry that at once.

use std::fmt::Write;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::details::{self, Violation};
use super::header_value::number;
use super::protocol::WireFormat;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The status codes that refusals use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
}

/// Writes the status. The message is [`encoded`].
pub(super) fn write_status(code: Code, message: HeaderValue, wire: WireFormat, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, wire.content_type());
    headers.insert(STATUS, number(code as u64));
    headers.insert(MESSAGE, message);
}

/// Writes the wait of a refusal by a limit, and the violated quotas.
pub(super) fn write_wait<'a>(
    code: Code,
    message: &str,
    wait: Option<Duration>,
    violations: impl Iterator<Item = &'a Violation>,
    headers: &mut HeaderMap,
) {
    let details = details::status(code as u8, message, wait, violations);
    if let Ok(details) = HeaderValue::try_from(details::base64(&details)) {
        headers.insert(DETAILS, details);
    }
    // No wait helps a request above its limit. A negative number forbids a retry (gRFC A6).
    let pushback = wait.map_or(const { HeaderValue::from_static("-1") }, |wait| number(pushback_ms(wait)));
    headers.insert(PUSHBACK, pushback);
}

/// Removes the sign that forbids a retry.
pub(super) fn allow_retry(headers: &mut HeaderMap) {
    headers.remove(PUSHBACK);
}

/// A message as a header value.
pub(super) fn encoded(message: &str) -> HeaderValue {
    // The encoded text is visible ASCII, so it is always a valid header value.
    HeaderValue::try_from(percent_encoded(message)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Raises the wait of a refusal by an inner limit. A refusal that forbids a retry stays unchanged.
pub(super) fn raise(headers: &mut HeaderMap, wait: Duration) {
    let sent = |headers: &HeaderMap| headers.get(PUSHBACK)?.to_str().ok()?.trim().parse::<u64>().ok();
    if sent(headers).is_some_and(|sent| sent < pushback_ms(wait)) {
        headers.insert(PUSHBACK, number(pushback_ms(wait)));
    }
    let details = headers.get(DETAILS).and_then(|value| details::raise_delay(value.as_bytes(), wait));
    if let Some(details) = details.and_then(|details| HeaderValue::try_from(details).ok()) {
        headers.insert(DETAILS, details);
    }
}

/// The wait before the next attempt (gRFC A6) in milliseconds, rounded up. It is a positive 32-bit number.
fn pushback_ms(wait: Duration) -> u64 {
    let most = i32::MAX as u64;
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).map_or(most, |ms| ms.min(most))
}

/// Encodes the bytes outside of 0x20 to 0x7E and the percent sign (PROTOCOL-HTTP2, "Responses").
fn percent_encoded(message: &str) -> String {
    message.bytes().fold(String::with_capacity(message.len()), |mut text, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => write!(text, "%{byte:02X}").unwrap_or(()),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        for (message, want) in [
            ("rate limit exceeded", "rate limit exceeded"),
            ("100% é", "100%25 %C3%A9"),
            ("a\r\nb\0\u{7f}~", "a%0D%0Ab%00%7F~"),
            ("", ""),
        ] {
            assert_eq!(percent_encoded(message), want);
            assert_eq!(encoded(message), want);
        }
    }

    #[test]
    fn a_pushback_is_a_whole_number_of_32_bits() {
        for (wait, want) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1_500), 2),
            (Duration::from_secs(37), 37_000),
            (Duration::from_millis(i32::MAX as u64), i32::MAX as u64),
            (Duration::from_secs(1 << 40), i32::MAX as u64),
            (Duration::MAX, i32::MAX as u64),
        ] {
            assert_eq!(pushback_ms(wait), want, "{wait:?}");
        }
    }

    fn refusal(wire: WireFormat, wait: Option<Duration>) -> HeaderMap {
        let violation = Violation { subject: "policy:a".into(), description: "limit 1 per 1s".into() };
        let mut headers = HeaderMap::new();
        write_status(Code::ResourceExhausted, encoded("m"), wire, &mut headers);
        write_wait(Code::ResourceExhausted, "m", wait, [violation].iter(), &mut headers);
        headers
    }

    #[test]
    fn a_refusal_has_one_of_each_field() {
        let wait = Some(Duration::from_micros(1_499_001));
        for (wire, want) in [
            (WireFormat::Grpc, "application/grpc"),
            (WireFormat::GrpcWeb, "application/grpc-web+proto"),
            (WireFormat::GrpcWebText, "application/grpc-web-text+proto"),
        ] {
            let headers = refusal(wire, wait);
            assert_eq!((headers.len(), headers.keys_len()), (5, 5));
            assert_eq!(headers["content-type"], want);
            assert_eq!(headers[STATUS], "8");
            assert_eq!(headers[MESSAGE], "m");
            assert_eq!(headers[PUSHBACK], "1500");
            let violation = Violation { subject: "policy:a".into(), description: "limit 1 per 1s".into() };
            let details = details::status(8, "m", wait, [&violation]);
            assert_eq!(headers[DETAILS], details::base64(&details), "the delay is not rounded");
        }
    }

    #[test]
    fn a_refusal_without_a_useful_wait_forbids_a_retry() {
        assert_eq!(refusal(WireFormat::Grpc, None)[PUSHBACK], "-1");
    }

    #[test]
    fn a_longer_wait_replaces_a_shorter_one_and_nothing_else() {
        let [short, long] = [1, 3_600].map(Duration::from_secs);
        for (before, raise_to, want) in
            [(Some(short), long, Some(long)), (Some(long), short, Some(long)), (None, long, None)]
        {
            let mut headers = refusal(WireFormat::Grpc, before);
            raise(&mut headers, raise_to);
            assert_eq!(headers, refusal(WireFormat::Grpc, want), "{before:?} raised to {raise_to:?}");
        }
        let mut headers = HeaderMap::new();
        raise(&mut headers, long);
        assert!(headers.is_empty(), "a response without a wait gets none");
    }
}

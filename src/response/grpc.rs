//! A refusal in gRPC. It is trailers-only: the headers contain the status, and the stream ends with them.
//!
//! The HTTP status is 200. Clients treat an HTTP error as UNAVAILABLE, and many retry that at once.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::details::{self, Violation};
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
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
}

/// The status of one kind of refusal, rendered once.
#[derive(Debug)]
pub(super) struct Status {
    code: Code,
    message: Box<str>,
    encoded: HeaderValue,
}

impl Status {
    pub(super) fn new(code: Code, message: &str) -> Self {
        let encoded = HeaderValue::try_from(percent_encoded(message));
        // The encoded text is visible ASCII, so it is always a valid header value.
        let encoded = encoded.unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { code, message: message.into(), encoded }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    /// The response. `details` is `None` unless a limit caused the refusal.
    pub(super) fn response<'a>(
        &self,
        wire: WireFormat,
        wait: Option<Duration>,
        violations: Option<impl Iterator<Item = &'a Violation>>,
    ) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, wire.content_type());
        headers.insert(STATUS, HeaderValue::from(self.code as u16));
        headers.insert(MESSAGE, self.encoded.clone());
        let is_limited = violations.is_some();
        if let Some(violations) = violations {
            let details = details::status(self.code as u8, &self.message, wait, violations);
            if let Ok(details) = HeaderValue::try_from(details::base64(&details)) {
                headers.insert(DETAILS, details);
            }
        }
        // No wait helps a request above its limit. A negative number forbids a retry (gRFC A6).
        let pushback = wait.map(pushback_ms).or_else(|| is_limited.then_some(-1));
        if let Some(pushback) = pushback {
            headers.insert(PUSHBACK, HeaderValue::from(pushback));
        }
        response
    }
}

/// Raises the wait of a refusal by an inner limit. A refusal that forbids a retry stays unchanged.
pub(super) fn raise(headers: &mut HeaderMap, wait: Duration) {
    let told = |headers: &HeaderMap| headers.get(PUSHBACK)?.to_str().ok()?.trim().parse::<i32>().ok();
    if told(headers).is_some_and(|told| (0..pushback_ms(wait)).contains(&told)) {
        headers.insert(PUSHBACK, HeaderValue::from(pushback_ms(wait)));
    }
    let details = headers.get(DETAILS).and_then(|value| details::raise_delay(value.as_bytes(), wait));
    if let Some(details) = details.and_then(|details| HeaderValue::try_from(details).ok()) {
        headers.insert(DETAILS, details);
    }
}

/// The wait before the next attempt (gRFC A6) in milliseconds, rounded up. It is a positive 32-bit number.
fn pushback_ms(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
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
            assert_eq!(Status::new(Code::Internal, message).encoded, want);
        }
    }

    #[test]
    fn a_pushback_is_a_whole_number_of_32_bits() {
        for (wait, want) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1_500), 2),
            (Duration::from_secs(37), 37_000),
            (Duration::from_millis(i32::MAX as u64), i32::MAX),
            (Duration::from_secs(1 << 40), i32::MAX),
            (Duration::MAX, i32::MAX),
        ] {
            assert_eq!(pushback_ms(wait), want, "{wait:?}");
        }
    }

    #[test]
    fn a_response_has_one_of_each_field_and_no_body() {
        let status = Status::new(Code::ResourceExhausted, "rate limit exceeded");
        let wait = Some(Duration::from_micros(1_499_001));
        for (wire, want) in [
            (WireFormat::Grpc, "application/grpc"),
            (WireFormat::GrpcWeb, "application/grpc-web+proto"),
            (WireFormat::GrpcWebText, "application/grpc-web-text+proto"),
        ] {
            let response = status.response(wire, wait, Some([].iter()));
            assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
            let headers = response.headers();
            assert_eq!((headers.len(), headers.keys_len()), (5, 5));
            assert_eq!(headers["content-type"], want);
            assert_eq!(headers[STATUS], "8");
            assert_eq!(headers[MESSAGE], "rate limit exceeded");
            assert_eq!(headers[PUSHBACK], "1500");
            let details = details::status(8, "rate limit exceeded", wait, []);
            assert_eq!(headers[DETAILS], details::base64(&details), "the delay is not rounded");
        }
    }

    #[test]
    fn a_refusal_without_a_useful_wait_forbids_a_retry() {
        let none = None::<std::slice::Iter<'_, Violation>>;
        let limited = Status::new(Code::ResourceExhausted, "m").response(WireFormat::Grpc, None, Some([].iter()));
        assert_eq!(limited.headers()[PUSHBACK], "-1", "an automatic retry is forbidden");
        let no_key = Status::new(Code::InvalidArgument, "m").response(WireFormat::Grpc, None, none);
        assert!(!no_key.headers().contains_key(PUSHBACK));
    }

    #[test]
    fn a_longer_wait_replaces_a_shorter_one_and_nothing_else() {
        let [short, long] = [1, 3_600].map(Duration::from_secs);
        let refusal = |wait| {
            let violation = Violation { subject: "policy:a".into(), description: "limit 1 per 1s".into() };
            Status::new(Code::ResourceExhausted, "m").response(WireFormat::Grpc, wait, Some([violation].iter()))
        };
        for (before, raise_to, want) in
            [(Some(short), long, Some(long)), (Some(long), short, Some(long)), (None, long, None)]
        {
            let mut response = refusal(before);
            raise(response.headers_mut(), raise_to);
            assert_eq!(response.headers(), refusal(want).headers(), "{before:?} raised to {raise_to:?}");
        }
        let mut headers = HeaderMap::new();
        raise(&mut headers, long);
        assert!(headers.is_empty(), "a response without a wait gets none");
    }
}

//! `Retry-After` (RFC 9110 section 10.2.3) in seconds, or as the date that a handler has set.

use std::time::{Duration, SystemTime};

use http::header::{Entry, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use super::header_value::number;
use crate::time::seconds_up;

/// A wait in whole seconds, rounded up and at least 1: 0 would mean "now", and truncation would be too short.
pub(super) fn seconds(wait: Duration) -> u64 {
    seconds_up(wait).max(1)
}

/// Sets the field to the longer of this wait and its present one. The field may appear only once.
///
/// A date with a longer wait stays a date.
pub(super) fn raise(headers: &mut HeaderMap, seconds: u64) {
    match headers.entry(RETRY_AFTER) {
        Entry::Vacant(field) => {
            field.insert(number(seconds));
        }
        Entry::Occupied(mut field) => {
            let longest = field.iter().filter_map(|value| Some((delay(value)?, value)));
            let value = match longest.max_by_key(|(delay, _)| *delay) {
                Some((delay, value)) if delay >= seconds => value.clone(),
                _ => number(seconds),
            };
            field.insert(value);
        }
    }
}

/// The longest readable wait of the field.
pub(crate) fn longest(headers: &HeaderMap) -> Option<Duration> {
    headers.get_all(RETRY_AFTER).iter().filter_map(delay).max().map(Duration::from_secs)
}

/// Whether the field contains a readable wait.
pub(super) fn is_set(headers: &HeaderMap) -> bool {
    headers.get_all(RETRY_AFTER).iter().any(|value| delay(value).is_some())
}

/// The seconds from now, rounded up. The value is a number or an HTTP-date (RFC 9110 section 5.6.7).
fn delay(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    text.parse().ok().or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        let wait = date.duration_since(SystemTime::now()).unwrap_or_default();
        Some(seconds_up(wait))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        for (nanos, want) in [
            (0, 1),
            (1, 1),
            (999_000_000, 1),
            (1_000_000_000, 1),
            (1_000_000_001, 2),
            (1_500_000_000, 2),
            (59_001_000_000, 60),
        ] {
            assert_eq!(seconds(Duration::from_nanos(nanos)), want);
        }
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_longer_wait_stays_in_one_field() {
        for (before, want) in [
            (&[][..], "5"),
            (&["4"], "5"),
            (&["5"], "5"),
            (&[" 6 "], " 6 "),
            (&["Fri, 31 Dec 2100 23:59:59 GMT"], "Fri, 31 Dec 2100 23:59:59 GMT"),
            (&["Fri, 31 Dec 2100 23:59:59 GMT", "8"], "Fri, 31 Dec 2100 23:59:59 GMT"),
            (&["Friday, 31-Dec-00 23:59:59 GMT"], "5"),
            (&["soon"], "5"),
            (&["18446744073709551616"], "5"),
            (&["Sun, 06 Nov 1994 08:49:37 GMT"], "5"),
            (&["7", "8"], "8"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(before.iter().map(|it| (RETRY_AFTER, HeaderValue::from_bytes(it.as_bytes()).unwrap())));
            raise(&mut headers, 5);
            let values: Vec<_> = headers.get_all(RETRY_AFTER).iter().collect();
            assert_eq!(values, [want], "{before:?}");
        }
    }

    #[test]
    fn a_date_is_a_wait_until_then() {
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        for (seconds, stays) in [(50, true), (70, false)] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, in_a_minute.parse().unwrap());
            raise(&mut headers, seconds);
            let want = if stays { in_a_minute.clone() } else { seconds.to_string() };
            assert_eq!(headers[RETRY_AFTER], want);
            assert!(is_set(&headers));
        }
    }
}

//! `Retry-After` (RFC 9110 section 10.2.3) as delay-seconds.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::line::number;

/// A wait in whole seconds, rounded up and at least 1: 0 would mean "now", and truncating would come early.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Sets the field to the longer of this wait and the one that it asks for. It may appear only once.
pub(super) fn raise(headers: &mut HeaderMap, seconds: u64) {
    let seconds = told(headers).map_or(seconds, |told| told.max(seconds));
    headers.insert(RETRY_AFTER, number(seconds));
}

/// The seconds that the field asks for; nothing where it is absent, a date, or no number.
pub(super) fn told(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(RETRY_AFTER).iter();
    values.filter_map(|value| value.to_str().ok()?.trim().parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
    fn the_longer_wait_stays_and_stays_alone() {
        for (before, want) in [
            (&[][..], "5"),
            (&["4"], "5"),
            (&["5"], "5"),
            (&[" 6 "], "6"),
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
}

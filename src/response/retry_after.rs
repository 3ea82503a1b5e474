//! `Retry-After` (RFC 9110 section 10.2.3) as delay-seconds.

use std::time::Duration;

use http::HeaderValue;

/// A wait in whole seconds, rounded up and at least 1: 0 would mean "now", and truncating would come early.
pub(super) fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        for (nanos, want) in [
            (0, "1"),
            (1, "1"),
            (999_000_000, "1"),
            (1_000_000_000, "1"),
            (1_000_000_001, "2"),
            (1_500_000_000, "2"),
            (59_001_000_000, "60"),
        ] {
            assert_eq!(seconds(Duration::from_nanos(nanos)), want);
        }
        assert_eq!(seconds(Duration::MAX), u64::MAX.to_string().as_str());
    }
}

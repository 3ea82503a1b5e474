//! Merges the fields with those of a handler or an inner layer.
//!
//! List fields are appended. Fields for one limit report the strictest limit: the one with the fewest remaining units,
//! and of equal ones the one with the longest reset. Unreadable fields stay unchanged.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::response::header_value::{line, number};
use crate::time::seconds_up;

/// Limit, remaining and reset.
pub(super) type Triple = [HeaderName; 3];
pub(super) const DRAFT6: Triple = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];
pub(super) const X: Triple = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// Adds a member to a list. A separate line is equivalent (RFC 9651 section 3.1).
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, member: HeaderValue) {
    // A full map, with 32768 values, stays unchanged.
    let _is_known = headers.try_append(name, member);
}

/// Sets the fields unless the present ones are as strict. Without a reset, there are two fields.
pub(super) fn triple(headers: &mut HeaderMap, names: &Triple, limit: &HeaderValue, remaining: u64, reset: Option<u64>) {
    let is_taken = names.iter().any(|name| headers.contains_key(name));
    let read = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if !is_taken || is_stricter(remaining, reset, read(&names[1]).zip(read(&names[2]))) {
        let values = [Some(limit.clone()), Some(number(remaining)), reset.map(number)];
        for (name, value) in names.iter().zip(values) {
            match value {
                Some(value) => headers.insert(name, value),
                None => headers.remove(name),
            };
        }
    }
}

/// Sets the dictionary of draft 07 unless the present one is as strict.
pub(super) fn dictionary(headers: &mut HeaderMap, name: HeaderName, limit: u64, remaining: u64, reset: Option<u64>) {
    let read = |text: &str, key: &str| {
        let mut members = text.split(',').filter_map(|member| member.trim().split_once('='));
        members.find(|(it, _)| *it == key)?.1.parse::<u64>().ok()
    };
    let is_stricter = headers.get(&name).is_none_or(|value| {
        let text = value.to_str().unwrap_or_default();
        is_stricter(remaining, reset, read(text, "remaining").zip(read(text, "reset")))
    });
    let value = match reset {
        Some(reset) => line([("limit=", limit), (", remaining=", remaining), (", reset=", reset)]),
        None => line([("limit=", limit), (", remaining=", remaining)]),
    };
    if is_stricter && let Some(value) = value {
        headers.insert(name, value);
    }
}

/// Whether these values allow a client less than the present remaining and reset.
fn is_stricter(remaining: u64, reset: Option<u64>, sent: Option<(u64, u64)>) -> bool {
    let reset = reset.unwrap_or(u64::MAX);
    sent.is_some_and(|sent| (remaining, Reverse(reset)) < (sent.0, Reverse(sent.1)))
}

/// The first full second since 1970 that is at least `seconds` from now.
pub(super) fn epoch(now: SystemTime, seconds: u64) -> u64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    seconds_up(now).saturating_add(seconds)
}

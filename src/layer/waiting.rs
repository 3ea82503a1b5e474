//! Requests that wait: the settings of a layer, the place of a request, and the waits that others ask for.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::built_limit::{Asked, TierRef};
use crate::error::ConfigError;
use crate::key::RequestView;
use crate::keyspace::fingerprint::Fingerprint;
use crate::response::longest_retry_after;
use crate::store::{WaitOptions, WaitingRoom};

/// The settings of the builder.
#[derive(Clone, Copy)]
pub(super) struct WaitConfig {
    pub(super) max_wait: Duration,
    pub(super) max_waiting: usize,
    pub(super) max_waiting_per_key: usize,
    pub(super) longest_pause: Option<Duration>,
}

impl Default for WaitConfig {
    fn default() -> Self {
        Self { max_wait: Duration::ZERO, max_waiting: 1_024, max_waiting_per_key: 16, longest_pause: None }
    }
}

impl WaitConfig {
    /// The waiting room of a layer, if it needs one. An update of a layer keeps a room with the same settings.
    pub(super) fn room(self, old: Option<&Arc<WaitingRoom>>) -> Result<Option<Arc<WaitingRoom>>, ConfigError> {
        let Self { max_wait, max_waiting, max_waiting_per_key, longest_pause } = self;
        if max_waiting == 0 || max_waiting_per_key == 0 {
            return Err(ConfigError::ZeroMaxWaiting);
        }
        if max_wait.is_zero() && longest_pause.is_none() {
            return Ok(None);
        }
        let options = WaitOptions { max_wait, max_waiting, max_waiting_per_key, longest_pause };
        Ok(Some(match old.filter(|room| *room.options() == options) {
            Some(room) => Arc::clone(room),
            None => Arc::new(WaitingRoom::new(options)),
        }))
    }
}

/// Identifies the keys of a request, with the limits and the tiers that they are for.
pub(super) fn place(room: &WaitingRoom, applied: &[Asked]) -> Fingerprint {
    let mut bytes = Vec::new();
    for asked in applied {
        let tier = match &asked.tier {
            TierRef::Base => "",
            TierRef::Other(tier) => tier.rendered.policy().name(),
        };
        for part in [tier.as_bytes(), asked.key.as_bytes()] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        bytes.push(asked.index as u8);
    }
    room.fingerprint(&bytes)
}

/// The longest time for which a request can wait: no longer than its gRPC client does.
pub(super) fn longest_wait(room: &WaitingRoom, request: &RequestView<'_>) -> Duration {
    let timeout = request.headers().get("grpc-timeout").and_then(|value| grpc_timeout(value.as_bytes()));
    timeout.map_or(room.options().max_wait, |timeout| timeout.min(room.options().max_wait))
}

/// Reads `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, section "Requests").
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count: u64, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The pause that a server asks for: `Retry-After` with 429 (RFC 6585 section 4) or 503 (RFC 9110 section 15.6.4).
pub(super) fn asked_pause(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let asks = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    if asks { longest_retry_after(headers) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_digits_and_a_unit() {
        for (text, millis) in [
            ("2H", Some(7_200_000)),
            ("3M", Some(180_000)),
            ("4S", Some(4_000)),
            ("50m", Some(50)),
            ("6000u", Some(6)),
            ("7000000n", Some(7)),
            ("99999999H", Some(359_999_996_400_000)),
            ("999999999S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("1s", None),
        ] {
            assert_eq!(grpc_timeout(text.as_bytes()), millis.map(Duration::from_millis), "{text}");
        }
    }
}

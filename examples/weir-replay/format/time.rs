//! Times of log lines, in milliseconds since 1970.

/// A time, and whether its text has less than seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) ms: u64,
    pub(crate) has_fraction: bool,
}

/// Reads a time: `10/Oct/2000:13:55:36 -0700`, RFC 3339 (also with a blank for the `T`, or without a zone, which is
/// UTC), or a number since 1970.
pub(crate) fn stamp(text: &[u8]) -> Option<Stamp> {
    match text {
        [_, _, b'/', ..] => common(text),
        [_, _, _, _, b'-', ..] => rfc3339(text),
        _ => std::str::from_utf8(text).ok()?.parse().ok().and_then(since_1970),
    }
}

/// Reads a number since 1970. Its size shows whether it counts seconds, milliseconds, microseconds or nanoseconds.
pub(crate) fn since_1970(number: f64) -> Option<Stamp> {
    let (ms, has_fraction) = match number {
        _ if !(0.0..1e20).contains(&number) => return None,
        _ if number < 1e11 => (number * 1_000.0, number.fract() != 0.0),
        _ if number < 1e14 => (number, true),
        _ if number < 1e17 => (number / 1_000.0, true),
        _ => (number / 1_000_000.0, true),
    };
    Some(Stamp { ms: ms.round() as u64, has_fraction })
}

/// `10/Oct/2000:13:55:36 -0700`
fn common(text: &[u8]) -> Option<Stamp> {
    let month = match text.get(3..6)? {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    };
    if text.get(6) != Some(&b'/') || text.get(11) != Some(&b':') {
        return None;
    }
    let date = [digits(text.get(7..11)?)?, month, digits(text.get(..2)?)?];
    stamp_of(date, text.get(12..20)?, text.get(20..)?)
}

/// `2000-10-10T13:55:36.123Z`
fn rfc3339(text: &[u8]) -> Option<Stamp> {
    if text.get(7) != Some(&b'-') || !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let date = [digits(text.get(..4)?)?, digits(text.get(5..7)?)?, digits(text.get(8..10)?)?];
    stamp_of(date, text.get(11..19)?, text.get(19..)?)
}

/// The date, `13:55:36`, a fraction, and the zone.
fn stamp_of([year, month, day]: [u64; 3], time: &[u8], rest: &[u8]) -> Option<Stamp> {
    let [_, _, b':', _, _, b':', _, _] = time else { return None };
    let (hour, minute, second) = (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..])?);
    // A leap second is read as the next second.
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, zone, has_fraction) = match rest {
        [b'.' | b',', rest @ ..] => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let digit = |at: usize| rest[..length].get(at).map_or(0, |digit| u64::from(digit - b'0'));
            (digit(0) * 100 + digit(1) * 10 + digit(2), &rest[length..], length > 0)
        }
        _ => (0, rest, false),
    };
    let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    let utc = i64::try_from(seconds).ok()? - offset_seconds(zone)?;
    Some(Stamp { ms: u64::try_from(utc).ok()? * 1_000 + fraction_ms, has_fraction })
}

/// `Z`, `-0700`, ` -07:00`, or nothing.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let zone = zone.trim_ascii_start();
    let (sign, minutes) = match zone {
        [] | b"Z" | b"z" => return Some(0),
        [sign, a, b, b':', c, d] | [sign, a, b, c, d] => (sign, digits(&[*a, *b])? * 60 + digits(&[*c, *d])?),
        [sign, a, b] => (sign, digits(&[*a, *b])? * 60),
        _ => return None,
    };
    let seconds = i64::try_from(minutes * 60).ok()?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// The days from 1970 to a date; <https://howardhinnant.github.io/date_algorithms.html>.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// A date and time for a report, as `2000-10-10 13:55:36`.
pub(crate) fn date_and_time(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000 + 719_468, ms / 1_000 % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// A number of decimal digits only.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

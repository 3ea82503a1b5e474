//! Numbers for people.

/// A count with a comma between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count for an axis, such as `1.5k`.
pub(super) fn short(number: f64) -> String {
    match number {
        _ if number >= 1e9 => format!("{}G", number / 1e9),
        _ if number >= 1e6 => format!("{}M", number / 1e6),
        _ if number >= 1e4 => format!("{}k", number / 1e3),
        _ => format!("{number}"),
    }
}

/// A part of a whole in percent. A part above 0 is never shown as 0, and one below 1 never as 100.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent == 0.0 || percent == 100.0 => format!("{percent} %"),
        _ if percent < 0.0001 => "< 0.0001 %".into(),
        _ if percent < 0.1 => format!("{percent:.4} %"),
        _ if percent < 10.0 => format!("{percent:.2} %"),
        _ if percent > 99.9 => "> 99.9 %".into(),
        _ => format!("{percent:.1} %"),
    }
}

/// A percentage that the user wrote, with no more digits than it has.
pub(super) fn target(share: f64) -> String {
    format!("{} %", (share * 1e8).round() / 1e6)
}

/// A length of time, with its two largest units.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

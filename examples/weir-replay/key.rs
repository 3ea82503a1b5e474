//! The keys of requests: which fields they have, and how they are written.

use std::fmt::Write as _;

use crate::format::{Fields, Record, address, write_network};

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The client's network, as the limiter identifies clients.
    Client,
    /// The client's address.
    Address,
    Method,
    /// Without the query.
    Path,
    /// A field that the user named.
    Extra(usize),
}

/// The parts of a key; none if all requests have the same key.
pub(crate) type Parts = Vec<Part>;

/// Reads the parts of a key, such as `client`, `method + path` or `global`.
///
/// # Errors
///
/// Returns a message for the user if a part is unknown.
pub(crate) fn parts(text: &str, fields: &Fields) -> Result<Parts, String> {
    if text.trim() == "global" {
        return Ok(Parts::new());
    }
    let part = |name: &str| match name.trim() {
        "client" => Ok(Part::Client),
        "method" => Ok(Part::Method),
        "path" => Ok(Part::Path),
        name => fields.slot(name).map(Part::Extra).ok_or_else(|| {
            format!("{name:?} is no key; write client, method, path, global, or the name of a --field, joined by +")
        }),
    };
    text.split('+').map(part).collect()
}

/// Writes a key. No two different keys have the same bytes.
pub(crate) fn write(parts: &[Part], record: &Record, out: &mut Vec<u8>) {
    match parts {
        [part] => write_part(*part, record, out),
        _ => parts.iter().for_each(|part| {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            write_part(*part, record, out);
            let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }),
    }
}

fn write_part(part: Part, record: &Record, out: &mut Vec<u8>) {
    match part {
        Part::Client => write_network(&record.client, out),
        Part::Address => out.extend_from_slice(address(&record.client)),
        Part::Method => out.extend_from_slice(&record.method),
        Part::Path => out.extend_from_slice(path(&record.path)),
        Part::Extra(slot) => out.extend_from_slice(&record.extra[slot]),
    }
}

/// The path of a request's target, without scheme, host and query.
fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    match target.strip_prefix(b"http://").or_else(|| target.strip_prefix(b"https://")) {
        Some(rest) => memchr::memchr(b'/', rest).map_or(b"/", |slash| &rest[slash..]),
        None => target,
    }
}

/// The parts of a key's bytes.
pub(crate) fn split<'a>(parts: &[Part], mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    if parts.len() == 1 {
        return vec![bytes];
    }
    let mut found = Vec::with_capacity(parts.len());
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = (u32::from_be_bytes(*length) as usize).min(rest.len());
        found.push(&rest[..length]);
        bytes = &rest[length..];
    }
    found
}

/// A key as a text for people. Nothing in it can control a terminal.
pub(crate) fn readable(parts: &[Part], bytes: &[u8]) -> String {
    if parts.is_empty() {
        return "(all requests)".into();
    }
    let texts: Vec<String> = split(parts, bytes).into_iter().map(printable).collect();
    texts.join(" + ")
}

/// The longest part of a key in a report, in characters.
const LONGEST: usize = 80;

/// A text from the log without characters that a terminal or a browser would obey, and not too long.
pub(crate) fn printable(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(none)".into();
    }
    // A character has at most four bytes.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let mut printable = String::new();
    for char in text.chars().take(LONGEST) {
        if is_invisible(char) {
            let _ = write!(printable, "{}", char.escape_unicode());
        } else {
            printable.push(char);
        }
    }
    if text.chars().count() > LONGEST || bytes.len() > text.len() {
        printable.push('…');
    }
    printable
}

/// Whether a character controls a terminal, is invisible, or changes the direction of the text after it.
fn is_invisible(char: char) -> bool {
    let others = ['\u{ad}', '\u{61c}', '\u{feff}'];
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{e0000}'..='\u{e0fff}'];
    char.is_control() || others.contains(&char) || ranges.iter().any(|range| range.contains(&char))
}

//! Parses one address in a header from bytes.
//!
//! The parser never converts a whole header to text. `HeaderValue::to_str` fails on any byte above 0x7F, so a client
//! could invalidate the part that a proxy appended.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with or without a port, as proxies write it into `X-Forwarded-For` and similar headers: `192.0.2.7`,
/// `192.0.2.7:80`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:80`.
///
/// `2001:db8::7:443` is an address without a port.
pub(super) fn loose(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = trim(bytes);
    if bytes.iter().filter(|&&byte| byte == b':').take(2).count() < 2 || bytes.starts_with(b"[") {
        return with_port(bytes, is_port);
    }
    Some(canonical(v6(bytes)?))
}

/// An RFC 7239 (section 6) node that is an address. IPv6 without brackets, which some senders write, is accepted too.
///
/// The port may be obfuscated. IPv6 without brackets has a port only if the whole text is not an address:
/// `2001:db8::7:443` is an address.
pub(super) fn forwarded(bytes: &[u8]) -> Option<IpAddr> {
    let bracketed = with_port(bytes, |port| is_port(port) || is_obfuscated(port));
    bracketed.or_else(|| v6(bytes).map(canonical)).or_else(|| viewer(bytes))
}

/// Whether the entry is a Unix socket, as nginx writes it.
pub(super) fn is_unix(bytes: &[u8]) -> bool {
    trim(bytes) == b"unix:"
}

/// An address and a port with IPv6 without brackets, as in `CloudFront-Viewer-Address`.
pub(super) fn viewer(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = trim(bytes);
    let colon = bytes.iter().rposition(|&byte| byte == b':')?;
    let (ip, port) = (&bytes[..colon], &bytes[colon + 1..]);
    if !is_port(port) {
        return None;
    }
    v4(ip).map(IpAddr::V4).or_else(|| v6(ip).map(canonical))
}

/// `192.0.2.7` or `[2001:db8::7]`, with or without a port.
fn with_port(bytes: &[u8], is_port: impl Fn(&[u8]) -> bool) -> Option<IpAddr> {
    let (ip, rest) = match bytes.strip_prefix(b"[") {
        Some(bytes) => {
            let end = bytes.iter().position(|&byte| byte == b']')?;
            (canonical(v6(&bytes[..end])?), &bytes[end + 1..])
        }
        None => {
            let end = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
            (IpAddr::V4(v4(&bytes[..end])?), &bytes[end..])
        }
    };
    let is_sound = match rest.split_first() {
        None => true,
        Some((colon, port)) => *colon == b':' && is_port(port),
    };
    is_sound.then_some(ip)
}

/// A decimal number from 0 to 65535, in at most five digits.
fn is_port(bytes: &[u8]) -> bool {
    let is_number = matches!(bytes.len(), 1..=5) && bytes.iter().all(u8::is_ascii_digit);
    is_number && bytes.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
}

fn is_obfuscated(bytes: &[u8]) -> bool {
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    bytes.split_first().is_some_and(|(first, rest)| *first == b'_' && !rest.is_empty() && rest.iter().all(is_legal))
}

/// The parser of `std`, which rejects 010.0.0.1, 1.2.3 and zones.
fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    parse(bytes, "255.255.255.255".len())
}

fn v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    parse(bytes, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len())
}

fn parse<T: FromStr>(bytes: &[u8], most: usize) -> Option<T> {
    if bytes.len() > most {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Converts an IPv4-mapped address to IPv4, so that one client has one spelling.
fn canonical(v6: Ipv6Addr) -> IpAddr {
    v6.to_canonical()
}

/// Removes the whitespace around a text (OWS of RFC 9110: spaces and tabs).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_determines_which_texts_are_addresses() {
        const V4: Option<&str> = Some("192.0.2.7");
        const V6: Option<&str> = Some("2001:db8::7");
        for (text, in_list, in_forwarded, with_viewer) in [
            ("192.0.2.7", V4, V4, None),
            ("192.0.2.7:0", V4, V4, V4),
            ("192.0.2.7:65535", V4, V4, V4),
            ("192.0.2.7:65536", None, None, None),
            ("192.0.2.7:000080", None, None, None),
            ("192.0.2.7:", None, None, None),
            ("192.0.2.7:_x", None, V4, None),
            ("192.0.2.7:_", None, None, None),
            ("192.0.2.7:_x y", None, None, None),
            ("192.0.2.7:+1", None, None, None),
            ("192.0.2.7:80:80", None, None, None),
            ("192.0.2.07", None, None, None),
            ("192.0.2", None, None, None),
            ("3221225991", None, None, None),
            ("0xc0000207", None, None, None),
            ("[192.0.2.7]", None, None, None),
            ("2001:db8::7", V6, V6, None),
            ("[2001:db8::7]", V6, V6, None),
            ("[2001:db8::7]:80", V6, V6, None),
            ("[2001:db8::7]80", None, None, None),
            ("[2001:db8::7", None, None, None),
            ("2001:db8::7]", None, None, None),
            ("[[2001:db8::7]]", None, None, None),
            ("[2001:db8::7%eth0]", None, None, None),
            ("2001:db8::7%1", None, None, None),
            ("2001:db8::7:80", Some("2001:db8::7:80"), Some("2001:db8::7:80"), V6),
            ("2001:db8::7:54321", None, V6, V6),
            ("2001:db8:0:0:0:0:0:7:80", None, V6, V6),
            ("::ffff:192.0.2.7", V4, V4, None),
            ("::ffff:192.0.2.7:80", None, V4, V4),
            ("[::ffff:c000:207]:80", V4, V4, None),
            ("", None, None, None),
            (":", None, None, None),
            ("::", Some("::"), Some("::"), None),
            ("unknown", None, None, None),
            ("_hidden", None, None, None),
        ] {
            let want = |ip: Option<&str>| ip.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(loose(text.as_bytes()), want(in_list), "{text}");
            assert_eq!(forwarded(text.as_bytes()), want(in_forwarded), "{text}");
            assert_eq!(viewer(text.as_bytes()), want(with_viewer), "{text}");
        }
        assert_eq!(loose(b" \t192.0.2.7\t "), V4.map(|ip| ip.parse().unwrap()));
        assert_eq!(loose(b"192.0.2.7\xff"), None);
    }
}

//! The client of a request, as the limiter identifies clients.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address in a field: without a port or brackets, and the last one of a list.
///
/// Other texts, such as a name, stay as they are.
pub(crate) fn address(field: &[u8]) -> &[u8] {
    let last = memchr::memrchr(b',', field).map_or(field, |comma| &field[comma + 1..]).trim_ascii();
    if let Some(inner) = last.strip_prefix(b"[") {
        return memchr::memchr(b']', inner).map_or(last, |end| &inner[..end]);
    }
    match memchr::memchr(b':', last) {
        // Two colons are an IPv6 address.
        Some(at) if memchr::memchr(b':', &last[at + 1..]).is_none() => &last[..at],
        _ => last,
    }
}

/// Writes the network of the address in a field as `key::ClientIp` does: IPv6 clients are limited by their /64.
pub(crate) fn write_network(field: &[u8], out: &mut Vec<u8>) {
    use std::io::Write as _;

    // The usual case: an IPv4 address.
    if field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.')) {
        return out.extend_from_slice(field);
    }
    let address = address(field);

    // Only an IPv6 address has a colon.
    let parsed = address.contains(&b':').then(|| std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()).flatten();
    let Some(v6) = parsed else { return out.extend_from_slice(address) };
    let _ = match v6.to_canonical() {
        IpAddr::V4(v4) => write!(out, "{v4}"),
        IpAddr::V6(v6) => write!(out, "{}/64", Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    };
}

/// The address of a connection, for a layer. `None` if the text is no address.
pub(crate) fn socket(address: &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

//! What a client sends stands to the left of two proxies' elements, in its line and before it, and chooses nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Request};
use tower_weir::ClientIp;
use tower_weir::key::RequestView;

/// The client, and how its proxy writes it: as RFC 7239 has it, and without brackets and quotes.
const CLIENTS: [(IpAddr, &str); 2] = [
    (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), "203.0.113.9"),
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)), "2001:db8::9"),
];
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

/// What a proxy appends, with the client's `Host` in it as a quoted string.
fn appended(node: &str, host: &[u8]) -> Vec<u8> {
    let mut element = format!(", for={node};host=\"").into_bytes();
    for &byte in host {
        if matches!(byte, b'"' | b'\\') {
            element.push(b'\\');
        }
        element.push(byte);
    }
    element.push(b'"');
    element
}

/// Whether a reader from the left is inside a quote at the end.
fn leaves_a_quote_open(bytes: &[u8]) -> bool {
    let (mut is_open, mut bytes) = (false, bytes.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_open = !is_open,
            b'\\' if is_open => drop(bytes.next()),
            _ => {}
        }
    }
    is_open
}

/// The first line is the client's `Host`, the second what it sent in the proxies' line, the rest earlier lines.
pub(crate) fn check(data: &[u8]) {
    for (client, node) in CLIENTS {
        check_client(client, node, data);
    }
}

fn check_client(client: IpAddr, node: &str, data: &[u8]) {
    let mut parts = data.splitn(3, |&byte| byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (host, same_line, earlier) = (part(), part(), part());
    let mut request = Request::new(());
    request.extensions_mut().insert(SocketAddr::new(PROXY, 4_000));
    let line = [same_line, &appended(node, host), &appended("10.0.0.7", host)].concat();
    for value in earlier.split(|&byte| byte == b'\n').chain([&line[..]]) {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        request.headers_mut().append(HeaderName::from_static("forwarded"), value);
    }
    let view = RequestView::new(&request);
    let behind = |networks: &[&str]| ClientIp::behind(networks).expect("they are networks").forwarded();
    for key in [behind(&["10.0.0.0/8"]), behind(&["10.0.0.0/8", "unix:"]), ClientIp::hops(2).forwarded()] {
        let got = key.address(&view);
        let is_allowed = got == Ok(client) || got.is_err() && leaves_a_quote_open(same_line);
        assert!(is_allowed, "{got:?} by {key:?}");
    }
}

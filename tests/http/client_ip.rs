//! Whose address is the key: every row of the shared vectors, and what no client may bring about.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use serde_json::Value;
use tower_weir::key::{KeyWriter, MissingKey, RequestView};
use tower_weir::{ClientIp, ConfigError, KeyExtractor, RateLimitLayer};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// A peer inside the networks that the tests trust.
const PROXY: &str = "10.0.0.5:40000";
const TRUSTED: [&str; 2] = ["10.0.0.0/8", "unix:"];

fn request<H: AsRef<[u8]>>(peer: Option<&str>, headers: impl IntoIterator<Item = (&'static str, H)>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer.parse::<SocketAddr>().unwrap());
    }
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    request
}

fn address(key: &ClientIp, request: &Request<()>) -> Result<IpAddr, MissingKey> {
    key.address(&RequestView::new(request))
}

/// What an extractor writes for a request.
fn key_of(key: &ClientIp, request: &Request<()>) -> Vec<u8> {
    let mut out = KeyWriter::new();
    key.key(&RequestView::new(request), &mut out).unwrap();
    out.as_bytes().to_vec()
}

fn key_bytes(ip: IpAddr) -> Vec<u8> {
    let mut out = KeyWriter::new();
    out.write(&ip);
    out.as_bytes().to_vec()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn rows(file: &str) -> Vec<Value> {
    serde_json::from_str(file).unwrap()
}

/// The extractor that a row describes.
fn configured(row: &Value) -> ClientIp {
    let source = text(&row["source"]);
    if source == "peer" {
        return ClientIp::peer();
    }
    let key = match row["trusted_hops"].as_u64() {
        Some(n) => ClientIp::hops(usize::try_from(n).unwrap()),
        None => ClientIp::behind(row["trusted"].as_array().unwrap().iter().map(text)).unwrap(),
    };
    match source {
        "x-forwarded-for" => key,
        "forwarded" => key.forwarded(),
        name => key.header(name),
    }
}

#[test]
fn every_row_of_the_address_vectors() {
    let rows = rows(include_str!("../vectors/client-ip.json"));
    assert!(rows.len() >= 80, "{}", rows.len());
    for row in rows {
        let headers = row["headers"].as_array().unwrap().iter().map(|line| {
            let name = HeaderName::try_from(text(&line[0])).unwrap();
            let latin1: Vec<u8> = text(&line[1]).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            (name, latin1)
        });
        let mut request = request::<&str>(row["peer"].as_str(), []);
        for (name, value) in headers {
            request.headers_mut().append(name, HeaderValue::from_bytes(&value).unwrap());
        }
        let want = row["expected"].as_str().map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(address(&configured(&row), &request).ok(), want, "{}: {}", row["name"], row["why"]);
    }
}

#[test]
fn every_row_of_the_prefix_vectors() {
    for row in rows(include_str!("../vectors/ip-prefix.json")) {
        let bits = |name: &str| u8::try_from(row[name].as_u64().unwrap()).unwrap();
        let key = ClientIp::peer().v4_prefix(bits("v4_prefix")).v6_prefix(bits("v6_prefix"));
        let peer = SocketAddr::new(text(&row["ip"]).parse().unwrap(), 1).to_string();
        let (network, _) = text(&row["expected_key"]).split_once('/').unwrap();
        assert_eq!(key_of(&key, &request::<&str>(Some(&peer), [])), key_bytes(network.parse().unwrap()), "{row}");
    }
}

#[test]
fn the_default_prefixes_are_a_whole_ipv4_address_and_an_ipv6_64() {
    let set = ClientIp::peer().v4_prefix(32).v6_prefix(64);
    for peer in ["203.0.113.9:1", "[2001:db8:1:2:3:4:5:6]:1", "[64:ff9b::203.0.113.9]:1"] {
        let request = request::<&str>(Some(peer), []);
        assert_eq!(key_of(&ClientIp::peer(), &request), key_of(&set, &request), "{peer}");
    }
}

/// The NAT64 address of a trusted IPv4 address is not trusted, though its key is that of the IPv4 address.
#[test]
fn trust_is_decided_by_the_whole_address() {
    let key = ClientIp::behind(TRUSTED).unwrap();
    let through_nat64 = request(Some("[64:ff9b::10.0.0.5]:1"), [("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(address(&key, &through_nat64), Ok("64:ff9b::a00:5".parse().unwrap()));
    assert_eq!(key_of(&key, &through_nat64), key_bytes("10.0.0.5".parse().unwrap()));
    let one = ClientIp::behind(["fd00::1"]).unwrap();
    let beside = request(Some("[fd00::2]:1"), [("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(address(&one, &beside), Ok("fd00::2".parse().unwrap()), "in the same /64 as a proxy, and not it");
}

#[test]
fn a_header_is_read_in_the_format_of_its_name() {
    let chain = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9, 10.0.0.7")];
    let behind = || ClientIp::behind(TRUSTED).unwrap();
    assert_eq!(address(&behind().header("X-Forwarded-For"), &request(Some(PROXY), chain)), Ok(CLIENT));
    let chain = [("forwarded", "for=6.6.6.6"), ("forwarded", "for=203.0.113.9;proto=https")];
    assert_eq!(address(&behind().header("Forwarded"), &request(Some(PROXY), chain)), Ok(CLIENT));
    for name in ["cf-connecting-ip", "x-real-ip", "fly-client-ip", "true-client-ip", "x-azure-socketip", "x-ours"] {
        let key = behind().header(name);
        assert_eq!(address(&key, &request(Some(PROXY), [(name, " 203.0.113.9\t")])), Ok(CLIENT), "{name}");
        let key = ClientIp::hops(1).header(name);
        assert_eq!(address(&key, &request(None, [(name, "203.0.113.9")])), Ok(CLIENT), "{name}");
        for unusable in [vec![], vec!["203.0.113.9", "203.0.113.9"], vec!["203.0.113.9, 203.0.113.9"], vec![""]] {
            let request = request(Some(PROXY), unusable.iter().map(|value| (name, value)));
            assert!(address(&key, &request).is_err(), "{name}: {unusable:?}");
        }
    }
}

#[test]
fn no_recorded_address_is_trusted_only_as_a_unix_socket() {
    let list = [("x-forwarded-for", "203.0.113.9")];
    assert_eq!(address(&ClientIp::behind(["unix:"]).unwrap(), &request(None, list)), Ok(CLIENT));
    let error = address(&ClientIp::behind(["10.0.0.0/8"]).unwrap(), &request(None, list)).unwrap_err();
    assert!(error.to_string().contains("no peer address"), "{error}");
    let local = Some("127.0.0.1:1");
    assert_eq!(address(&ClientIp::behind(["unix:"]).unwrap(), &request(local, list)), Ok([127, 0, 0, 1].into()));
}

/// A client opens a quote, and the proxy's own element closes it where it escapes a quote from the client's
/// `Host`. What was one element is two now, and the second from the right is the client's invention.
#[test]
fn a_client_cannot_move_the_borders_of_what_a_proxy_appends() {
    let line = r#"for=6.6.6.6;x=", for=203.0.113.9, for=10.0.0.7;host=",q\"""#;
    for key in [ClientIp::hops(1), ClientIp::hops(2), ClientIp::hops(3), ClientIp::behind(TRUSTED).unwrap()] {
        let key = key.forwarded();
        for earlier in ["", "for=6.6.6.6", "for=6.6.6.6, for=6.6.6.6, for=6.6.6.6"] {
            let request = request(Some(PROXY), [("forwarded", earlier), ("forwarded", line)]);
            assert!(address(&key, &request).is_err(), "{key:?} after {earlier:?}");
        }
    }
}

/// What the property below leaves out, as it is documented.
#[test]
fn the_exceptions_are_these_three() {
    let behind = ClientIp::behind(TRUSTED).unwrap();
    // A client inside the trusted networks is believed.
    let inside = request(Some(PROXY), [("x-forwarded-for", "6.6.6.6, 10.9.9.9, 10.0.0.7")]);
    assert_eq!(address(&behind, &inside), Ok([6, 6, 6, 6].into()));
    let inside = request(Some(PROXY), [("x-forwarded-for", "10.9.9.8, 10.9.9.9, 10.0.0.7")]);
    assert_eq!(address(&behind, &inside), Ok([10, 9, 9, 8].into()), "the leftmost");
    // A proxy that was counted on is bypassed, and the client fills the gap.
    let bypassed = request(Some(PROXY), [("x-forwarded-for", "6.6.6.6, 203.0.113.9")]);
    assert_eq!(address(&ClientIp::hops(2), &bypassed), Ok([6, 6, 6, 6].into()));
    // A quote that does not end swallows what the proxy appended to the line.
    let quoted = request(Some(PROXY), [("forwarded", "for=\"6.6.6.6, for=203.0.113.9")]);
    assert!(address(&behind.forwarded(), &quoted).is_err());
}

#[test]
fn mistakes_are_found_when_the_layer_is_built() {
    let error = |key: ClientIp| RateLimitLayer::builder().quota("1/s".parse().unwrap()).key(key).build().unwrap_err();
    let behind = || ClientIp::behind(TRUSTED).unwrap();
    for (key, want) in [
        (ClientIp::peer().v6_prefix(129), ConfigError::InvalidPrefixLength { bits: 129, most: 128 }),
        (behind().v4_prefix(33), ConfigError::InvalidPrefixLength { bits: 33, most: 32 }),
        (ClientIp::hops(1).v4_prefix(33).v4_prefix(32), ConfigError::InvalidPrefixLength { bits: 33, most: 32 }),
        (ClientIp::peer().forwarded(), ConfigError::AddressHeaderWithoutProxy),
        (ClientIp::peer().header("x-real-ip"), ConfigError::AddressHeaderWithoutProxy),
        (behind().forwarded().header("x-real-ip"), ConfigError::SeveralAddressHeaders),
        (ClientIp::hops(1).header("x-real-ip").header("x-ours"), ConfigError::SeveralAddressHeaders),
        (behind().header("no name"), ConfigError::InvalidHeaderName("no name".into())),
    ] {
        let request = request(Some(PROXY), [("x-forwarded-for", "203.0.113.9")]);
        assert!(address(&key, &request).is_err(), "{key:?} is invalid and gives a key");
        let error = error(key);
        assert_eq!(error, want);
        assert!(error.to_string().contains("write"), "{error}");
    }
}

#[test]
fn no_proxy_at_all_is_a_mistake() {
    assert_eq!(ClientIp::behind([""; 0]).unwrap_err(), ConfigError::NoTrustedProxy);
    assert!(matches!(ClientIp::behind(["10.0.0.0/8", ""]).unwrap_err(), ConfigError::InvalidTrustedProxy(_)));
    let from_the_environment = String::from("10.0.0.0/8, fd00::/8");
    assert!(ClientIp::behind(from_the_environment.split(',')).is_ok());
}

/// Every way to read an address behind a proxy, with the header that is read.
fn modes() -> Vec<(ClientIp, &'static str)> {
    let mut modes = vec![(ClientIp::peer(), "x-forwarded-for")];
    let trusts: [fn() -> ClientIp; 4] =
        [|| ClientIp::behind(TRUSTED).unwrap(), || ClientIp::hops(0), || ClientIp::hops(1), || ClientIp::hops(3)];
    for trust in trusts {
        modes.push((trust(), "x-forwarded-for"));
        modes.push((trust().forwarded(), "forwarded"));
        for name in ["x-real-ip", "cloudfront-viewer-address"] {
            modes.push((trust().header(name), name));
        }
    }
    modes
}

/// Any bytes that can stand in a header.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>().prop_filter("legal", |&b| b == b'\t' || (b >= 32 && b != 127)), 0..40)
}

/// What an attacker might put into a list: bytes of the grammar, addresses that look trusted, and anything.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "6.6.6.6",
        "10.0.0.1",
        "[fd00::1]:4",
        "for=6.6.6.6",
        "for=10.0.0.1",
        "For=\"[::1]:4\"",
        "unknown",
        ",",
        ",",
        ";",
        " ",
        "host=\"a,b\"",
        "x=\"\\\",for=6.6.6.6\"",
        "\\",
    ]);
    prop_oneof![junk(), prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat().into_bytes()),]
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_sends(
        lines in prop::collection::vec((0_usize..4, prop_oneof![junk(), forged()]), 0..5),
        v6 in any::<bool>(),
    ) {
        const NAMES: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "cloudfront-viewer-address"];
        let peer = if v6 { "[2001:db8::9]:9" } else { "203.0.113.9:9" };
        let request = request(Some(peer), lines.iter().map(|(at, value)| (NAMES[*at], value)));
        let plain = address(&ClientIp::peer(), &request);
        prop_assert_eq!(plain, Ok(peer.parse::<SocketAddr>().unwrap().ip()));
        for key in [
            ClientIp::behind(TRUSTED).unwrap(),
            ClientIp::behind(TRUSTED).unwrap().forwarded(),
            ClientIp::behind(TRUSTED).unwrap().header("x-real-ip"),
            ClientIp::behind(TRUSTED).unwrap().header("cloudfront-viewer-address"),
            ClientIp::hops(0),
            ClientIp::hops(0).forwarded(),
            ClientIp::hops(0).header("x-real-ip"),
        ] {
            prop_assert_eq!(address(&key, &request), plain);
        }
    }

    #[test]
    fn no_bytes_panic(lines in prop::collection::vec(prop_oneof![junk(), forged()], 0..4), known in any::<bool>()) {
        for (key, name) in modes() {
            let request = request(known.then_some(PROXY), lines.iter().map(|value| (name, value)));
            let mut out = KeyWriter::new();
            let is_keyed = key.key(&RequestView::new(&request), &mut out).is_ok();
            prop_assert_eq!(is_keyed, address(&key, &request).is_ok());
        }
    }

    /// A client's lines and elements stand to the left of what the proxies append, and change nothing.
    #[test]
    fn what_a_client_sends_before_the_proxies_changes_nothing(
        lines in prop::collection::vec(forged(), 0..3),
        same_line in forged(),
        hops in 1_usize..4,
        client_is_inside in any::<bool>(),
    ) {
        let client = if client_is_inside { "10.9.9.9" } else { "203.0.113.9" };
        // The proxies beside the peer, and what each of them received the request from.
        let chain: Vec<String> =
            (1..hops).map(|hop| format!("10.0.0.{hop}")).fold(vec![client.to_owned()], |mut chain, ip| {
                chain.push(ip);
                chain
            });
        let forwarded: Vec<String> = chain.iter().map(|ip| format!("for={ip};host=\"a\\\"b,c\"")).collect();
        for (name, appended) in [("x-forwarded-for", chain.join(", ")), ("forwarded", forwarded.join(", "))] {
            let declare = |key: ClientIp| key.header(name);
            let honest = request(Some(PROXY), [(name, &appended)]);
            let joined = [&same_line[..], b", ", appended.as_bytes()].concat();
            let sent = lines.iter().map(Vec::as_slice).chain([&joined[..]]).map(|value| (name, value));
            let forged = request(Some(PROXY), sent);
            let want: IpAddr = client.parse().unwrap();

            for (key, is_counted) in [(ClientIp::behind(TRUSTED).unwrap(), false), (ClientIp::hops(hops), true)] {
                let key = declare(key);
                prop_assert_eq!(address(&key, &honest), Ok(want), "{:?}", key);
                let got = address(&key, &forged);
                if name == "forwarded" && leaves_a_quote_open(&same_line) {
                    // Exception: the client's quote swallows what was appended to its line. It gets no key,
                    // and never one that it chose.
                    prop_assert!(got.is_err() || got == Ok(want), "{:?} by {:?}", got, key);
                } else if client_is_inside && !is_counted {
                    // Exception: a client inside the trusted networks is believed.
                } else {
                    prop_assert_eq!(got, Ok(want), "{:?}", key);
                }
            }
            // Exception: one proxy fewer than was counted on, and the client fills the gap undetected.
            let bypassed = request(Some(PROXY), [(name, &appended)]);
            prop_assert!(address(&declare(ClientIp::hops(hops + 1)), &bypassed).is_err(), "never the leftmost instead");
        }
    }
}

/// The network is the key that the extractor writes; the address is for logs.
#[test]
fn the_network_is_the_key() {
    for (key, peer, network) in [
        (ClientIp::peer(), "[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::"),
        (ClientIp::peer().v6_prefix(56), "[2001:db8:1:2ff:3:4:5:6]:1", "2001:db8:1:200::"),
        (ClientIp::peer(), "203.0.113.9:1", "203.0.113.9"),
        (ClientIp::behind(TRUSTED).unwrap(), "[64:ff9b::203.0.113.9]:1", "203.0.113.9"),
    ] {
        let request = request::<&str>(Some(peer), []);
        let network: IpAddr = network.parse().unwrap();
        assert_eq!(key.network(&RequestView::new(&request)), Ok(network), "{peer}");
        assert_eq!(key_of(&key, &request), key_bytes(network), "{peer}");
        assert_eq!(address(&key, &request).unwrap(), peer.parse::<SocketAddr>().unwrap().ip());
    }
}

/// The log names the entry, and no other mistake is taken for it.
#[test]
fn an_entry_for_a_unix_socket_is_named() {
    let key = |name| ClientIp::behind(["10.0.0.0/8"]).unwrap().header(name);
    for (name, line) in [("x-forwarded-for", "203.0.113.9, unix:"), ("forwarded", "for=unix:"), ("x-real-ip", "unix:")]
    {
        let error = address(&key(name), &request(Some(PROXY), [(name, line)])).unwrap_err().to_string();
        assert!(error.contains("`unix:`") && error.contains("set_real_ip_from"), "{name}: {error}");
        let error = address(&key(name), &request(Some(PROXY), [(name, "unix")])).unwrap_err().to_string();
        assert!(!error.contains("unix:"), "{name}: {error}");
    }
}

#[cfg(feature = "axum")]
mod served {
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tower_weir::RateLimitLayerBuilder;
    use tower_weir::layer::OnMissingKey;

    use super::*;

    async fn serve(key: ClientIp, set: fn(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> SocketAddr {
        let layer = set(RateLimitLayer::builder().quota("1/h".parse().unwrap())).key(key).build().unwrap();
        let app = Router::new().route("/", get(async || "hello")).layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        addr
    }

    /// Sends one request with these header lines, byte for byte; the status of the answer.
    async fn status(addr: SocketAddr, lines: &[&[u8]]) -> u16 {
        let mut request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n".to_vec();
        for line in lines {
            request.extend([line, &b"\r\n"[..]].concat());
        }
        request.extend(b"\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(&request).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let answer = tokio::time::timeout(std::time::Duration::from_secs(30), exchange).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_client_behind_a_local_proxy_cannot_choose_its_budget() {
        let addr = serve(ClientIp::behind(["127.0.0.0/8"]).unwrap(), |layer| layer).await;
        for (lines, want) in [
            (&[&b"X-Forwarded-For: 203.0.113.9"[..]][..], 200),
            (&[b"X-Forwarded-For: 203.0.113.9"], 429),
            (&[b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.2"], 429),
            (&[b"X-Forwarded-For: 6.6.6.7", b"x-forwarded-for: 203.0.113.9:51234"], 429),
            (&[b"X-Forwarded-For: \xff\xfe, ::ffff:203.0.113.9"], 429),
            (&[b"Forwarded: for=6.6.6.8", b"X-Real-IP: 6.6.6.8", b"X-Forwarded-For: 203.0.113.9"], 429),
            (&[b"X-Forwarded-For: 203.0.113.10"], 200),
            (&[b"X-Forwarded-For: 2001:db8::1"], 200),
            (&[b"X-Forwarded-For: 2001:db8::2"], 429),
            (&[b"X-Forwarded-For: 64:ff9b::203.0.113.9"], 429),
            (&[b"X-Forwarded-For: 203.0.113.11, unknown"], 500),
            (&[b"Forwarded: for=203.0.113.11"], 500),
            // The proxy's own requests, such as health checks, have a budget of their own.
            (&[], 200),
            (&[], 429),
        ] {
            let about = lines.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>();
            assert_eq!(status(addr, lines).await, want, "{about:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_no_proxy_is_limited_as_itself() {
        let addr = serve(ClientIp::behind(["10.0.0.0/8"]).unwrap(), |layer| layer).await;
        assert_eq!(status(addr, &[b"X-Forwarded-For: 203.0.113.9"]).await, 200);
        assert_eq!(status(addr, &[b"X-Forwarded-For: 203.0.113.10"]).await, 429);
    }

    #[tokio::test]
    async fn a_request_without_a_usable_header_does_as_it_was_told() {
        let proxies = || ClientIp::behind(["127.0.0.1"]).unwrap().forwarded();
        let rejecting = serve(proxies(), |layer| layer).await;
        let sharing = serve(proxies(), |layer| layer.on_missing_key(OnMissingKey::Shared)).await;
        let allowing = serve(proxies(), |layer| layer.on_missing_key(OnMissingKey::Allow)).await;
        let open_quote: &[u8] = b"Forwarded: for=\"6.6.6.6, for=203.0.113.9";
        for (line, rejected, shared) in
            [(open_quote, 400, 200), (b"Forwarded: for=_hidden", 500, 429), (b"X-Forwarded-For: 6.6.6.6", 500, 429)]
        {
            assert_eq!(status(rejecting, &[line]).await, rejected);
            assert_eq!(status(sharing, &[line]).await, shared);
            assert_eq!(status(allowing, &[line]).await, 200);
        }
    }
}

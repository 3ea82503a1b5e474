//! Any header lines, in every mode: nothing panics, and an untrusted peer is the client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Request};
use tower_weir::key::{KeyWriter, RequestView};
use tower_weir::{ClientIp, KeyExtractor};

const NAMES: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "cloudfront-viewer-address"];
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn behind() -> ClientIp {
    ClientIp::behind(["10.0.0.0/8", "fd00::/8"]).expect("these are networks")
}

/// The first byte chooses the header and the hops, each line of the rest is a line of the header.
pub(crate) fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let name = NAMES[usize::from(mode % 4)];
    let mut request = Request::new(());
    for line in data.split(|&byte| byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    let hops = usize::from(mode >> 2 & 7);
    for peer in [PROXY, STRANGER] {
        request.extensions_mut().insert(SocketAddr::new(peer, 4_000));
        let view = RequestView::new(&request);
        for key in [behind().header(name), ClientIp::hops(hops).header(name)] {
            let is_keyed = key.key(&view, &mut KeyWriter::new()).is_ok();
            assert_eq!(is_keyed, key.address(&view).is_ok());
        }
        if peer == STRANGER {
            assert_eq!(behind().header(name).address(&view), Ok(STRANGER));
        }
    }
}

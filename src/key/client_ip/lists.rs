//! Whether a client belongs to a list of networks.

use super::network::nat64_unwrapped;
use super::proxy_detector::PROXY_DETECTOR;
use super::{ClientIp, From};
use crate::key::networks::Networks;
use crate::key::request_view::RequestView;

impl ClientIp {
    /// Whether an exemption for these networks applies. Without an address that can be trusted, it does not.
    ///
    /// The key of an exempt request is not read, so the key cannot detect that the address belongs to a proxy. Then
    /// all clients of that proxy would be exempt without a line in the log.
    pub(crate) fn is_exempt(&self, networks: &Networks, req: &RequestView<'_>) -> bool {
        let Ok(found) = self.found(req) else { return false };
        let is_exempt = networks.contains(found.address.into());
        if is_exempt && matches!(found.from, From::Peer) {
            PROXY_DETECTOR.see_exempt(found.address, req.headers());
        }
        is_exempt
    }

    /// Whether these networks deny the client. Without an address that can be trusted, they do not.
    ///
    /// A NAT64 address is denied with the IPv4 address in it, because both have the same key.
    pub(crate) fn is_denied(&self, networks: &Networks, req: &RequestView<'_>) -> bool {
        self.sampled(req).is_ok_and(|address| {
            networks.contains(address.into()) || networks.contains(nat64_unwrapped(address).into())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn from(address: &str) -> http::Request<()> {
        let peer: SocketAddr = format!("{address}:4000").parse().unwrap();
        http::Request::builder().extension(peer).body(()).unwrap()
    }

    /// Whether a client at this address is exempt, and whether it is denied.
    fn listed(networks: &str, request: &http::Request<()>) -> (bool, bool) {
        let (ip, networks, view) = (ClientIp::peer(), Networks::new([networks]).unwrap(), RequestView::new(request));
        (ip.is_exempt(&networks, &view), ip.is_denied(&networks, &view))
    }

    #[test]
    fn the_whole_address_is_searched() {
        for (networks, address, want) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "[::ffff:192.0.2.1]", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("2001:db8::1", "[2001:db8::2]", false),
        ] {
            assert_eq!(listed(networks, &from(address)), (want, want), "{address} in {networks}");
        }
    }

    #[test]
    fn a_nat64_address_is_denied_with_the_address_in_it_and_not_exempt_with_it() {
        let translated = from("[64:ff9b::192.0.2.1]");
        assert_eq!(listed("192.0.2.0/24", &translated), (false, true));
        assert_eq!(listed("64:ff9b::/96", &translated), (true, true));
        assert_eq!(listed("198.51.100.0/24", &translated), (false, false));
    }

    #[test]
    fn a_request_without_an_address_is_on_no_list() {
        for networks in ["0.0.0.0/0", "::/0"] {
            assert_eq!(listed(networks, &http::Request::new(())), (false, false));
        }
    }
}

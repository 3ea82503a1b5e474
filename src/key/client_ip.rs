use std::net::{IpAddr, SocketAddr};

use http::Extensions;

use super::{KeyExtractor, KeyWriter, MissingKey, RequestView};

/// A key from the client's address.
///
/// An IPv4-mapped IPv6 address is the IPv4 address that it maps. An IPv6 client is keyed by its /64, since a
/// host owns at least that much (RFC 4291, RFC 8273) and could otherwise take a new key for every request.
#[derive(Clone, Debug)]
pub struct ClientIp(());

impl ClientIp {
    /// The address of the connection's other end; no header is read.
    ///
    /// It is found where the server leaves it: axum's `ConnectInfo<SocketAddr>` or `MockConnectInfo`, tonic's
    /// `TcpConnectInfo` (feature `tonic`), or a bare `SocketAddr` extension.
    #[must_use]
    pub fn peer() -> Self {
        Self(())
    }
}

impl KeyExtractor for ClientIp {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let peer = peer(req.extensions()).ok_or(MissingKey::peer_address())?;
        out.write(&network(peer.ip()));
        Ok(())
    }
}

/// The peer's address as the servers record it, most common first.
fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(addr) = axum_peer(extensions) {
        return Some(addr);
    }
    #[cfg(feature = "tonic")]
    if let Some(info) = extensions.get::<tonic::transport::server::TcpConnectInfo>() {
        return info.remote_addr();
    }
    extensions.get::<SocketAddr>().copied()
}

#[cfg(feature = "axum")]
fn axum_peer(extensions: &Extensions) -> Option<SocketAddr> {
    use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};

    let real = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    real.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0))
}

/// The network that stands for a client: an IPv4 address whole, an IPv6 address by its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_one_network() {
        for (ip, want) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::"),
            ("::192.0.2.7", "::"),
        ] {
            assert_eq!(network(ip.parse().unwrap()), want.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }
}

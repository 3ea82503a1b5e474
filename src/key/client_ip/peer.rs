//! The peer of the connection, as the servers record it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Extensions;

use super::cidr::Proxies;
use crate::key::missing_key::MissingKey;

/// The peer of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// The address in canonical form, never IPv4-mapped. It is `None` if the server could not read the address of a
    /// peer that has one. Such a peer is never a trusted proxy.
    Recorded(Option<IpAddr>),
    /// A peer without an address, as on a Unix socket.
    Absent,
}

impl Peer {
    /// Searches the places where servers record the peer, the most common first.
    pub(super) fn of(extensions: &Extensions) -> Self {
        if let Some(addr) = axum(extensions) {
            return Self::from(addr);
        }
        if let Some(peer) = tonic(extensions) {
            return peer;
        }
        extensions.get::<SocketAddr>().copied().map_or(Self::Absent, Self::from)
    }

    /// The address of a peer that is a trusted proxy. On a Unix socket, it is the address of this machine.
    pub(super) fn trusted(self, proxies: &Proxies) -> Option<IpAddr> {
        match self {
            Self::Recorded(ip) => ip.filter(|ip| proxies.contains(*ip)),
            Self::Absent => proxies.is_unix_trusted().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }

    pub(super) fn ip(self) -> Result<IpAddr, MissingKey> {
        match self {
            Self::Recorded(Some(ip)) => Ok(ip),
            Self::Recorded(None) | Self::Absent => Err(MissingKey::peer_address()),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        // `to_ipv4` would convert ::1 to 0.0.0.1.
        Self::Recorded(Some(addr.ip().to_canonical()))
    }
}

#[cfg(feature = "axum")]
fn axum(extensions: &Extensions) -> Option<SocketAddr> {
    use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};

    let real = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    real.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0))
}

#[cfg(not(feature = "axum"))]
fn axum(_: &Extensions) -> Option<SocketAddr> {
    None
}

/// This also works for TLS, because tonic adds the inner connection's info to that of the TLS stream.
#[cfg(feature = "tonic")]
fn tonic(extensions: &Extensions) -> Option<Peer> {
    let info = extensions.get::<tonic::transport::server::TcpConnectInfo>()?;
    Some(info.remote_addr().map_or(Peer::Recorded(None), Peer::from))
}

#[cfg(not(feature = "tonic"))]
fn tonic(_: &Extensions) -> Option<Peer> {
    None
}

#[cfg(all(test, feature = "tonic"))]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_peer_without_an_address_is_no_unix_socket() {
        let mut extensions = Extensions::new();
        assert_eq!(Peer::of(&extensions), Peer::Absent);
        extensions.insert(tonic::transport::server::TcpConnectInfo { local_addr: None, remote_addr: None });
        assert_eq!(Peer::of(&extensions), Peer::Recorded(None));
    }
}

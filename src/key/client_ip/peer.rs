//! The peer of the connection, as the servers record it.

use std::net::{Ipv4Addr, SocketAddr};

use http::Extensions;

use super::network::Address;
use super::proxies::Proxies;
use crate::key::missing_key::MissingKey;

/// The peer of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer<'a> {
    /// `None` if the server could not read the address of a peer that has one. Such a peer is never a trusted proxy.
    Recorded(Option<&'a SocketAddr>),
    /// A peer without an address, as on a Unix socket.
    Absent,
}

impl<'a> Peer<'a> {
    /// Searches the places where servers record the peer, the most common first.
    #[inline]
    pub(super) fn of(extensions: &'a Extensions) -> Self {
        match axum(extensions) {
            Some(address) => Self::Recorded(Some(address)),
            None => Self::elsewhere(extensions),
        }
    }

    fn elsewhere(extensions: &'a Extensions) -> Self {
        if let Some(address) = axum_mock(extensions) {
            return Self::Recorded(Some(address));
        }
        if let Some(peer) = tonic(extensions) {
            return peer;
        }
        extensions.get::<SocketAddr>().map_or(Self::Absent, |address| Self::Recorded(Some(address)))
    }

    /// The address of a peer that is a trusted proxy. On a Unix socket, it is the address of this machine.
    pub(super) fn trusted(self, proxies: &Proxies) -> Option<Address> {
        match self {
            Self::Recorded(_) => self.address().ok().filter(|address| proxies.contains((*address).into())),
            Self::Absent => proxies.is_unix_trusted().then_some(Address::V4(Ipv4Addr::LOCALHOST.to_bits())),
        }
    }

    #[inline]
    pub(super) fn address(self) -> Result<Address, MissingKey> {
        match self {
            Self::Recorded(Some(address)) => Ok(address.ip().into()),
            Self::Recorded(None) | Self::Absent => Err(MissingKey::peer_address()),
        }
    }
}

#[cfg(feature = "axum")]
#[inline]
fn axum(extensions: &Extensions) -> Option<&SocketAddr> {
    extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| &info.0)
}

#[cfg(feature = "axum")]
fn axum_mock(extensions: &Extensions) -> Option<&SocketAddr> {
    extensions.get::<axum::extract::connect_info::MockConnectInfo<SocketAddr>>().map(|info| &info.0)
}

#[cfg(not(feature = "axum"))]
fn axum(_: &Extensions) -> Option<&SocketAddr> {
    None
}

#[cfg(not(feature = "axum"))]
fn axum_mock(_: &Extensions) -> Option<&SocketAddr> {
    None
}

/// This also works for TLS, because tonic adds the inner connection's info to that of the TLS stream.
#[cfg(feature = "tonic")]
fn tonic(extensions: &Extensions) -> Option<Peer<'_>> {
    let info = extensions.get::<tonic::transport::server::TcpConnectInfo>()?;
    Some(Peer::Recorded(info.remote_addr.as_ref()))
}

#[cfg(not(feature = "tonic"))]
fn tonic(_: &Extensions) -> Option<Peer<'_>> {
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

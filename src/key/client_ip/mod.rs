//! The client's address, which no client can choose.
//!
//! One source is declared, with a rule that states which senders are trusted: only the connection, proxies by their
//! networks, or proxies by their number. A list is read from the right, where the trusted proxies write. Reading stops
//! at the first address that belongs to none of them.

mod forwarded;
mod forwarded_for;
mod lists;
mod network;
mod node;
mod peer;
mod proxies;
mod proxy_detector;
mod reverse_elements;
mod source;
pub(super) mod text;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::network::{Address, Prefixes};
use self::peer::Peer;
use self::proxies::Proxies;
use self::proxy_detector::{BEHIND, PROXY_DETECTOR};
use self::source::Source;
use super::extractor::KeyExtractor;
use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;
use crate::error::ConfigError;

/// A key from the client's address, which the client cannot choose.
///
/// | the service is reachable | write |
/// |---|---|
/// | directly | [`ClientIp::peer()`](Self::peer) |
/// | through proxies whose networks are known | [`ClientIp::behind(["10.0.0.0/8"])?`](Self::behind) |
/// | only through exactly `n` proxies | [`ClientIp::hops(n)`](Self::hops) |
///
/// Behind proxies, exactly one header is read: `X-Forwarded-For`, or the one that [`forwarded`](Self::forwarded) or
/// [`header`](Self::header) declares. The layer never tries another header, because a client can always add one.
///
/// Lists are read from the right. An entry without an address, such as `unknown`, is never skipped, because a client
/// may have invented the entries to its left. The work depends on what the proxies appended and not on what the client
/// sent. Only the last line of a `Forwarded` header is scanned whole, for its quotes.
///
/// # Keys
///
/// An IPv4-mapped IPv6 address has the key of its IPv4 address. An IPv6 client has the key of its /64. A host owns at
/// least a /64 (RFC 4291, RFC 8273), so it could otherwise use a new key for every request.
/// [`v6_prefix`](Self::v6_prefix) and [`v4_prefix`](Self::v4_prefix) set other lengths. An address of the NAT64 prefix
/// 64:ff9b::/96 (RFC 6052) has the key of the IPv4 address in it. Trust is decided by the whole address.
///
/// # Missing addresses
///
/// A trusted peer without any forwarding header is treated as the client. It is a health check, a kubelet's probe or a
/// client on the proxy's machine. Its key is its own address, or 127.0.0.1 on a Unix socket. A client cannot cause
/// this, because it cannot remove what its proxy appends. Forwarding headers are the declared one, `X-Forwarded-For`,
/// `Forwarded` and `X-Real-IP`. With [`hops`](Self::hops), the peer does not matter, and such a request has no key.
///
/// If a trusted proxy sends a header without a usable address at the relevant position, the request has no key. The
/// proxy's own address would put all clients into one budget. This is a mistake in the deployment, and the response is
/// 500 unless `on_missing_key` changes it. An unterminated quote in `Forwarded` is the client's mistake, and the
/// response is 400.
///
/// # Text
///
/// A text begins with `client-ip`, which alone is [`peer`](Self::peer). Options follow in any order, as in
/// `client-ip behind 10.0.0.0/8 unix: header x-real-ip v6-prefix 56`, or `client-ip hops 2 header forwarded`.
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, RateLimitLayer};
///
/// let layer = RateLimitLayer::builder()
///     .quota("100/min".parse()?)
///     .key(ClientIp::behind(["10.0.0.0/8", "fd00::/8"])?)
///     .build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClientIp {
    trust: Trust,
    /// The declared header, or `X-Forwarded-For` if none was declared.
    source: Option<Source>,
    prefixes: Prefixes,
    /// The first mistake, which `check` returns.
    invalid: Option<ConfigError>,
}

/// Which senders of a client's address are trusted.
#[derive(Clone, Debug, PartialEq)]
enum Trust {
    Nobody,
    Proxies(Proxies),
    Hops(usize),
}

impl ClientIp {
    /// The address of the connection's peer. No header is read.
    ///
    /// The address comes from where the server records it: axum's `ConnectInfo<SocketAddr>` or `MockConnectInfo`,
    /// tonic's `TcpConnectInfo` (feature `tonic`), or a plain `SocketAddr` extension.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// let peer: SocketAddr = "203.0.113.9:4000".parse().unwrap();
    /// let request = http::Request::builder().extension(peer).header("x-forwarded-for", "6.6.6.6").body(()).unwrap();
    /// assert_eq!(ClientIp::peer().address(&RequestView::new(&request)), Ok(IpAddr::from([203, 0, 113, 9])));
    /// ```
    #[must_use]
    pub fn peer() -> Self {
        Self::new(Trust::Nobody)
    }

    /// The client in front of trusted proxies, which you list by their networks.
    ///
    /// A proxy is a network such as `"10.0.0.0/8"`, an address, or `"unix:"`. If the peer is not in the list, it is
    /// the client, and its headers are not read. Otherwise, the client is the first address from the right that
    /// belongs to no trusted proxy. If all addresses are trusted, it is the leftmost one, so a client inside the
    /// trusted networks can choose any address. A trusted peer without a forwarding header is the client itself.
    ///
    /// `"unix:"` trusts each request for which the server recorded no address, as on a Unix socket. Use it only if the
    /// server listens on nothing else, or records the address of every other peer. It also trusts an entry `unix:` in
    /// a list, which nginx writes if its own peer is on a Unix socket.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for an invalid network, a network with bits beyond its prefix, the whole Internet
    /// (`/0`), and an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// let key = ClientIp::behind(["10.0.0.0/8"])?;
    /// let client = |peer: &str| {
    ///     let peer: SocketAddr = peer.parse().unwrap();
    ///     let list = "6.6.6.6, 203.0.113.9, 10.0.0.7";
    ///     let request = http::Request::builder().extension(peer).header("x-forwarded-for", list).body(()).unwrap();
    ///     key.address(&RequestView::new(&request))
    /// };
    /// assert_eq!(client("10.0.0.5:4000"), Ok(IpAddr::from([203, 0, 113, 9])));
    /// assert_eq!(client("198.51.100.1:4000"), Ok(IpAddr::from([198, 51, 100, 1])), "not a trusted proxy");
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn behind<P>(proxies: P) -> Result<Self, ConfigError>
    where
        P: IntoIterator<Item: AsRef<str>>,
    {
        Ok(Self::new(Trust::Proxies(Proxies::parse(proxies)?)))
    }

    /// The client in front of `n` proxies: the `n`th address from the right.
    ///
    /// The peer does not matter, so every request must pass all `n` proxies. A client with a shorter path chooses its
    /// own address. Some proxies count twice, such as a load balancer that appends both the client's address and its
    /// own. With `n` = 0 this is [`peer`](Self::peer).
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// use std::net::IpAddr;
    ///
    /// let list = "6.6.6.6, 203.0.113.9, 198.51.100.3";
    /// let request = http::Request::builder().header("x-forwarded-for", list).body(()).unwrap();
    /// assert_eq!(ClientIp::hops(2).address(&RequestView::new(&request)), Ok(IpAddr::from([203, 0, 113, 9])));
    /// assert!(ClientIp::hops(4).address(&RequestView::new(&request)).is_err(), "the leftmost entry is never used instead");
    /// ```
    #[must_use]
    pub fn hops(n: usize) -> Self {
        Self::new(Trust::Hops(n))
    }

    fn new(trust: Trust) -> Self {
        Self { trust, source: None, prefixes: Prefixes::default(), invalid: None }
    }

    /// Reads the standard `Forwarded` header (RFC 7239) instead of `X-Forwarded-For`.
    ///
    /// Many senders omit quotes. So IPv6 without brackets or quotes is read too, alone, or with a port if the whole
    /// text is not an address. Unquoted ports are read too. If your proxy copies the client's `Host` into the header,
    /// the proxy must quote it, because a comma in it would start another element.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// let key = ClientIp::hops(1).forwarded();
    /// let list = r#"for=6.6.6.6, for="[2001:db8::9]:4711";proto=https"#;
    /// let request = http::Request::builder().header("forwarded", list).body(()).unwrap();
    /// assert_eq!(key.address(&RequestView::new(&request)), Ok("2001:db8::9".parse().unwrap()));
    /// ```
    #[must_use]
    pub fn forwarded(self) -> Self {
        self.declare(Ok(Source::Forwarded))
    }

    /// Reads a header in which the proxy sends one address, such as `X-Real-IP`, instead of `X-Forwarded-For`.
    ///
    /// Other examples are `CF-Connecting-IP`, `True-Client-IP`, `Fly-Client-IP`, `X-Azure-SocketIP` and
    /// `CloudFront-Viewer-Address`, which is read as address and port. The proxy must overwrite a header of that name
    /// from a client. A request with two lines of the header has no address. With [`hops`](Self::hops), the number
    /// does not matter unless it is 0.
    ///
    /// The name determines the format: `X-Forwarded-For` and `Forwarded` are lists here too.
    ///
    /// If the name is invalid, the layer's `build` returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// use std::net::SocketAddr;
    ///
    /// let key = ClientIp::behind(["173.245.48.0/20", "2400:cb00::/32"])?.header("cf-connecting-ip");
    /// let peer: SocketAddr = "173.245.48.9:4000".parse().unwrap();
    /// let request = http::Request::builder().extension(peer).header("CF-Connecting-IP", "2001:db8::9").body(()).unwrap();
    /// assert_eq!(key.address(&RequestView::new(&request)), Ok("2001:db8::9".parse().unwrap()));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn header(self, name: &str) -> Self {
        self.declare(Source::named(name))
    }

    fn declare(mut self, source: Result<Source, ConfigError>) -> Self {
        let declared = match (&self.trust, &self.source) {
            (Trust::Nobody, _) => Err(ConfigError::AddressHeaderWithoutProxy),
            (_, Some(_)) => Err(ConfigError::SeveralAddressHeaders),
            (_, None) => source,
        };
        match declared {
            Ok(source) => self.source = Some(source),
            Err(error) => self.invalidate(error),
        }
        self
    }

    /// Sets how many leading bits of an IPv6 address form the key, 0 to 128; the default is 64.
    ///
    /// Sites often own a /56 or a /48 (RFC 6177). A prefix longer than 64 lets every client choose among many keys.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::{ClientIp, RateLimitLayer};
    /// let limit = |bits| RateLimitLayer::builder().quota("9/s".parse()?).key(ClientIp::peer().v6_prefix(bits)).build();
    /// assert!(limit(56).is_ok());
    /// assert!(limit(129).is_err());
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn v6_prefix(mut self, bits: u8) -> Self {
        match Prefixes::v6_mask(bits) {
            Ok(mask) => self.prefixes.v6 = mask,
            Err(error) => self.invalidate(error),
        }
        self
    }

    /// Sets how many leading bits of an IPv4 address form the key, 0 to 32; the default is 32.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::{ClientIp, RateLimitLayer};
    /// let limit = |bits| RateLimitLayer::builder().quota("9/s".parse()?).key(ClientIp::peer().v4_prefix(bits)).build();
    /// assert!(limit(24).is_ok());
    /// assert!(limit(33).is_err());
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn v4_prefix(mut self, bits: u8) -> Self {
        match Prefixes::v4_mask(bits) {
            Ok(mask) => self.prefixes.v4 = mask,
            Err(error) => self.invalidate(error),
        }
        self
    }

    #[cold]
    fn invalidate(&mut self, error: ConfigError) {
        self.invalid.get_or_insert(error);
    }

    /// The client's whole address, for logs. An IPv4-mapped address is converted to IPv4.
    ///
    /// Use `ClientIp` itself or [`network`](Self::network) as a key, because an IPv6 client can use a new address for
    /// each request.
    ///
    /// # Errors
    ///
    /// Returns [`MissingKey`] if the request has no address that can be trusted.
    ///
    /// # Examples
    ///
    /// See [`behind`](Self::behind).
    pub fn address(&self, req: &RequestView<'_>) -> Result<IpAddr, MissingKey> {
        self.found(req).map(|found| found.address.into())
    }

    /// The network that forms the key: the first address of the client's IPv6 /64, or its IPv4 address.
    ///
    /// [`v6_prefix`](Self::v6_prefix) and [`v4_prefix`](Self::v4_prefix) set other lengths. Use this method in a
    /// closure for [`key_fn`](crate::RateLimitLayerBuilder::key_fn).
    ///
    /// # Errors
    ///
    /// Returns [`MissingKey`] if the request has no address that can be trusted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::ClientIp;
    /// # use tower_weir::key::RequestView;
    /// use std::net::SocketAddr;
    ///
    /// let peer: SocketAddr = "[2001:db8:1:2:3:4:5:6]:4000".parse().unwrap();
    /// let request = http::Request::builder().extension(peer).body(()).unwrap();
    /// let network = ClientIp::peer().network(&RequestView::new(&request));
    /// assert_eq!(network, Ok("2001:db8:1:2::".parse().unwrap()));
    /// ```
    pub fn network(&self, req: &RequestView<'_>) -> Result<IpAddr, MissingKey> {
        self.network_of(req).map(IpAddr::from)
    }

    /// The network of an address, as it forms the key.
    pub(super) fn network_of_address(&self, ip: IpAddr) -> IpAddr {
        self.prefixes.network(ip.into()).into()
    }

    #[inline]
    fn network_of(&self, req: &RequestView<'_>) -> Result<Address, MissingKey> {
        self.sampled(req).map(|address| self.prefixes.network(address))
    }

    /// The client's address. The first requests of a process are sampled for signs of a proxy.
    #[inline]
    fn sampled(&self, req: &RequestView<'_>) -> Result<Address, MissingKey> {
        let found = self.found(req)?;
        match found.from {
            From::Peer => PROXY_DETECTOR.see(found.address, req.headers()),
            From::Proxy { is_own } => BEHIND.see_trusted(found.address, is_own),
            From::Count => {}
        }
        Ok(found.address)
    }

    #[inline(always)]
    fn found(&self, req: &RequestView<'_>) -> Result<Found, MissingKey> {
        if self.invalid.is_some() {
            return Err(MissingKey::server_fault("the client address configuration is invalid"));
        }
        match &self.trust {
            Trust::Nobody | Trust::Hops(0) => {
                Ok(Found { address: Peer::of(req.extensions()).address()?, from: From::Peer })
            }
            Trust::Hops(n) => Ok(Found { address: self.source().nth(req.headers(), *n)?.into(), from: From::Count }),
            Trust::Proxies(proxies) => self.found_behind(proxies, req),
        }
    }

    fn found_behind(&self, proxies: &Proxies, req: &RequestView<'_>) -> Result<Found, MissingKey> {
        let peer = Peer::of(req.extensions());
        let (address, is_own) = match peer.trusted(proxies) {
            None => (peer.address()?, false),
            Some(_) if self.source().is_forwarded(req.headers()) => {
                (self.source().first_untrusted(req.headers(), proxies)?.into(), false)
            }
            Some(own) => (own, true),
        };
        Ok(Found { address, from: From::Proxy { is_own } })
    }

    fn source(&self) -> &Source {
        const DEFAULT: &Source = &Source::XForwardedFor;
        self.source.as_ref().unwrap_or(DEFAULT)
    }
}

/// A client's address, and its source.
struct Found {
    address: Address,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    Peer,
    /// The address comes from the trusted proxies' header, or is the proxy's own.
    Proxy {
        is_own: bool,
    },
    Count,
}

impl KeyExtractor for ClientIp {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        match self.network_of(req)? {
            Address::V4(v4) => out.write(&Ipv4Addr::from_bits(v4)),
            Address::V6(v6) => out.write(&Ipv6Addr::from_bits(v6)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.invalid.clone().map_or(Ok(()), Err)
    }

    fn text(&self) -> Cow<'static, str> {
        self.to_string().into()
    }
}

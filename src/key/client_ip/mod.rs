//! The client's address, which no client can choose.
//!
//! One declared source, and a rule for whom to believe: the connection alone, proxies by their networks, or
//! proxies by their number. A list is read from the right, where the trusted proxies have written, and no
//! further than to the first address that none of them owns.

mod cidr;
mod forwarded;
mod forwarded_for;
mod network;
mod node;
mod peer;
mod proxy_detector;
mod reverse_elements;
mod source;

use std::net::IpAddr;

use self::cidr::Proxies;
use self::network::Prefixes;
use self::peer::Peer;
use self::proxy_detector::{BEHIND, PROXY_DETECTOR};
use self::source::Source;
use super::extractor::KeyExtractor;
use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;
use crate::error::ConfigError;

/// A key from the client's address, which the client cannot choose.
///
/// | the service is reached | write |
/// |---|---|
/// | directly | [`ClientIp::peer()`](Self::peer) |
/// | through proxies whose networks are known | [`ClientIp::behind(["10.0.0.0/8"])?`](Self::behind) |
/// | only through proxies, of which there are always `n` | [`ClientIp::hops(n)`](Self::hops) |
///
/// Behind proxies exactly one header is read: `X-Forwarded-For`, or the one that [`forwarded`](Self::forwarded)
/// or [`header`](Self::header) declares. No other header is ever tried, since a client can always add one.
///
/// Lists are read from the right. An entry without an address, such as `unknown`, is never skipped: what stands
/// to its left may be the client's invention. The work depends on what the proxies appended and not on what the
/// client sent; only the last line of a `Forwarded` header is read whole, for the sake of its quotes.
///
/// # Keys
///
/// An IPv4-mapped IPv6 address is the IPv4 address that it maps. An IPv6 client is keyed by its /64, since a
/// host owns at least that much (RFC 4291, RFC 8273) and could otherwise take a new key for every request;
/// [`v6_prefix`](Self::v6_prefix) and [`v4_prefix`](Self::v4_prefix) set other lengths. An address of the NAT64
/// prefix 64:ff9b::/96 (RFC 6052) is keyed by the IPv4 address in it. Whom to trust is decided by the whole address.
///
/// # Missing addresses
///
/// A trusted peer that sends no forwarding header at all speaks for itself: it is a health check, a kubelet's probe
/// or a client on the proxy's machine. Its key is its own address, or 127.0.0.1 on a Unix socket. No client can
/// bring this about, since a client cannot remove what its proxy appends. Forwarding headers are the declared
/// one, `X-Forwarded-For`, `Forwarded` and `X-Real-IP`. With [`hops`](Self::hops) the peer is not looked at, and
/// such a request has no key.
///
/// If a trusted proxy sends a header without a usable address at the place that counts, the request has no key: the
/// proxy's own address would put all clients into one budget. That is a mistake of the deployment, and answered
/// 500 unless `on_missing_key` says otherwise. One mistake is the client's, and answered 400: a quote in
/// `Forwarded` that does not end.
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
#[derive(Clone, Debug)]
pub struct ClientIp {
    trust: Trust,
    /// The header that was declared; `X-Forwarded-For` where none was.
    source: Option<Source>,
    prefixes: Prefixes,
    /// The first mistake, for `check`.
    invalid: Option<ConfigError>,
}

/// Who is believed about a client's address.
#[derive(Clone, Debug)]
enum Trust {
    Nobody,
    Proxies(Proxies),
    Hops(usize),
}

impl ClientIp {
    /// The address of the connection's other end; no header is read.
    ///
    /// It is found where the server leaves it: axum's `ConnectInfo<SocketAddr>` or `MockConnectInfo`, tonic's
    /// `TcpConnectInfo` (feature `tonic`), or a bare `SocketAddr` extension.
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

    /// The client in front of trusted proxies, which are known by their networks.
    ///
    /// A proxy is a network such as `"10.0.0.0/8"`, an address, or `"unix:"`. If the peer is none of them, it is
    /// the client, and its headers are not read. Otherwise the client is the first address from the right that
    /// no trusted proxy owns, or the leftmost if all are trusted: a client inside the trusted networks can
    /// name any address. A trusted peer that sends no forwarding header is the client itself.
    ///
    /// `"unix:"` trusts each request for which the server recorded no address, as on a Unix socket. Write it
    /// only if the server listens on nothing else, or records the address of every other peer. It also trusts an
    /// entry `unix:` in a list, which nginx writes if its own peer is on a Unix socket.
    ///
    /// # Errors
    ///
    /// Texts that are no networks, networks with bits beyond their prefix, the whole Internet (`/0`), and no
    /// proxy at all.
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
    /// assert_eq!(client("198.51.100.1:4000"), Ok(IpAddr::from([198, 51, 100, 1])), "no proxy of ours");
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
    /// The peer is not looked at, so the service must not be reachable but through all `n` of them: who comes by
    /// a shorter way names its own address. Some proxies count twice, such as a load balancer that appends
    /// both the client's address and its own. With 0 it is [`peer`](Self::peer).
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
    /// assert!(ClientIp::hops(4).address(&RequestView::new(&request)).is_err(), "never the leftmost instead");
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
    /// Many senders do not quote: IPv6 without brackets or quotes is read, alone or with a port if the whole is no
    /// address, and so are unquoted ports. If your proxy copies the client's `Host` into the header, it must quote
    /// it, since a comma in it would begin another element.
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
    /// Others are `CF-Connecting-IP`, `True-Client-IP`, `Fly-Client-IP`, `X-Azure-SocketIP` and
    /// `CloudFront-Viewer-Address`, which is read as address and port. The proxy must overwrite what a client
    /// sends under that name; a request in which the header stands twice has no address. With
    /// [`hops`](Self::hops) the number does not matter but for 0.
    ///
    /// The format follows the name: `X-Forwarded-For` and `Forwarded` are lists here too.
    ///
    /// Where it is no legal name, the layer's `build` says so.
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

    /// Sets how many leading bits of an IPv6 address are the key, 0 to 128; default 64.
    ///
    /// Sites often own a /56 or a /48 (RFC 6177). A longer prefix than 64 gives every client as many keys as it
    /// cares to use.
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

    /// Sets how many leading bits of an IPv4 address are the key, 0 to 32; default 32.
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

    /// The client's whole address, for logs; IPv4 if it is IPv4-mapped.
    ///
    /// As a key, use `ClientIp` itself or [`network`](Self::network): an IPv6 client can take a new address for each
    /// request.
    ///
    /// # Errors
    ///
    /// [`MissingKey`] if the request has no address that can be trusted.
    ///
    /// # Examples
    ///
    /// See [`behind`](Self::behind).
    pub fn address(&self, req: &RequestView<'_>) -> Result<IpAddr, MissingKey> {
        self.found(req).map(|found| found.address)
    }

    /// The network that is the key: the first address of the client's IPv6 /64, or its IPv4 address.
    ///
    /// [`v6_prefix`](Self::v6_prefix) and [`v4_prefix`](Self::v4_prefix) set other lengths. Use it in a closure for
    /// [`key_fn`](crate::RateLimitLayerBuilder::key_fn).
    ///
    /// # Errors
    ///
    /// [`MissingKey`] if the request has no address that can be trusted.
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
        let found = self.found(req)?;
        match found.from {
            From::Peer => PROXY_DETECTOR.see(found.address, req.headers()),
            From::Proxy { is_own } => BEHIND.see_trusted(found.address, is_own),
            From::Count => {}
        }
        Ok(self.prefixes.network(found.address))
    }

    fn found(&self, req: &RequestView<'_>) -> Result<Found, MissingKey> {
        const DEFAULT: &Source = &Source::XForwardedFor;

        if self.invalid.is_some() {
            return Err(MissingKey::server_fault("the client address is not configured rightly"));
        }
        let source = self.source.as_ref().unwrap_or(DEFAULT);
        let (address, from) = match &self.trust {
            Trust::Nobody | Trust::Hops(0) => (Peer::of(req.extensions()).ip()?, From::Peer),
            Trust::Hops(n) => (source.nth(req.headers(), *n)?, From::Count),
            Trust::Proxies(proxies) => {
                let peer = Peer::of(req.extensions());
                match peer.trusted(proxies) {
                    None => (peer.ip()?, From::Proxy { is_own: false }),
                    Some(_) if source.is_forwarded(req.headers()) => {
                        (source.first_untrusted(req.headers(), proxies)?, From::Proxy { is_own: false })
                    }
                    Some(own) => (own, From::Proxy { is_own: true }),
                }
            }
        };
        Ok(Found { address, from })
    }
}

/// A client's address, and how it was found.
struct Found {
    address: IpAddr,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    Peer,
    /// In the list of the proxies that are trusted, or as their own.
    Proxy {
        is_own: bool,
    },
    Count,
}

impl KeyExtractor for ClientIp {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        out.write(&self.network(req)?);
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.invalid.clone().map_or(Ok(()), Err)
    }
}

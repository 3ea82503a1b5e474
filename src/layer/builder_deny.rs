//! The builder's setters for requests that a layer refuses without a decision.

use std::sync::Arc;

use super::builder::RateLimitLayerBuilder;
use crate::key::{ClientIp, IntoNetworks, RequestView};

impl RateLimitLayerBuilder {
    /// Denies the requests for which the function returns true.
    ///
    /// A denied request is refused with 403, or PERMISSION_DENIED in gRPC, before its key is read. It is charged
    /// nothing, and the refusal asks for no wait. An exempt request is not denied, and
    /// [`enabled(false)`](Self::enabled) also turns off the denials.
    ///
    /// Each call adds a case. A client evades a case that depends on something that it can choose, such as a header.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .deny(|req| req.uri().path().starts_with("/.git/"))
    ///     .denied_status(404)
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn deny<F>(mut self, is_denied: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> bool + Send + Sync + 'static,
    {
        self.denials.predicates.push(Arc::new(is_denied));
        self
    }

    /// Denies the clients of these networks; see [`deny`](Self::deny).
    ///
    /// `ip` reads the client's address. Pass the [`ClientIp`] of the key, if the key is one. A request whose address
    /// cannot be read is not denied. By default, such a request has no key and is refused for that reason.
    ///
    /// A NAT64 address is denied with the IPv4 address in it. The list may contain `0.0.0.0/0` or `::/0`, which deny
    /// all clients of one family.
    ///
    /// If a network is invalid or the list is empty, [`build`](Self::build) returns an error. A search in 10 000
    /// networks takes 14 steps. Each call adds a list. The lists of equal readers `ip` are one list.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, RateLimitLayer};
    ///
    /// let ip = ClientIp::behind(["10.0.0.0/8"])?;
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .key(ip.clone())
    ///     .deny_networks(ip, ["192.0.2.0/24", "2001:db8::/32"])
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn deny_networks(mut self, ip: ClientIp, networks: impl IntoNetworks) -> Self {
        self.denials.add_networks(ip, networks.into_networks());
        self
    }

    /// Sets the status of a denied request, 400 to 599; the default is 403.
    ///
    /// gRPC clients get PERMISSION_DENIED with any status.
    pub fn denied_status(mut self, status: u16) -> Self {
        self.denials.status = Some(status);
        self
    }
}

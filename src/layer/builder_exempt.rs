//! The builder's setters for requests that a layer does not limit.

use std::sync::Arc;

use http::Method;

use super::builder::RateLimitLayerBuilder;
use crate::key::{ClientIp, IntoNetworks, RequestView};

impl RateLimitLayerBuilder {
    /// Exempts the requests for which the function returns true. They are admitted without a key and without a charge.
    ///
    /// Each call adds a case. Use this for health checks and internal callers.
    /// [`OnMissingKey::Allow`](super::OnMissingKey::Allow) would also admit a client whose key is missing by mistake.
    /// Decide by something that a client cannot choose: any client can send a header.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, RateLimitLayer};
    ///
    /// let ip = ClientIp::behind(["10.0.0.0/8"])?;
    /// let caller = ip.clone();
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .key(ip)
    ///     .exempt(move |req| caller.address(req).is_ok_and(|ip| ip.is_loopback()))
    ///     .exempt(|req| req.uri().path().starts_with("/internal/"))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt<F>(mut self, is_exempt: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> bool + Send + Sync + 'static,
    {
        self.exemptions.predicates.push(Arc::new(is_exempt));
        self
    }

    /// Exempts these paths, such as those of health checks.
    ///
    /// Paths are compared byte by byte, without the query. A router that is nested at `/api` sees `/health` instead of
    /// `/api/health`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer =
    ///     RateLimitLayer::builder().quota("100/min".parse()?).exempt_paths(["/health", "/metrics"]).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt_paths<P>(mut self, paths: P) -> Self
    where
        P: IntoIterator<Item: Into<String>>,
    {
        self.exemptions.paths.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Exempts the clients of these networks, such as those of your monitoring.
    ///
    /// `ip` reads the client's address. Pass the [`ClientIp`] of the key, if the key is one. A request whose address
    /// cannot be read is not exempt. Behind a proxy, [`ClientIp::peer`] reads the proxy's address, and a network with
    /// that address exempts all clients of the proxy.
    ///
    /// If a network is invalid or the list is empty, [`build`](Self::build) returns an error. The same is true if the
    /// networks contain all of `0.0.0.0/0` or `::/0`. Each call adds a list.
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
    ///     .exempt_networks(ip, ["192.0.2.0/24", "2001:db8::/32"])
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt_networks(mut self, ip: ClientIp, networks: impl IntoNetworks) -> Self {
        self.exemptions.add_networks(ip, networks.into_networks());
        self
    }

    /// Exempts gRPC health checks: the methods of `grpc.health.v1.Health`.
    ///
    /// Any client can call them, so a client can send any number of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).exempt_grpc_health().build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt_grpc_health(mut self) -> Self {
        self.exemptions.grpc_health = true;
        self
    }

    /// Exempts gRPC server reflection: the methods of `grpc.reflection.v1.ServerReflection` and of its `v1alpha`.
    ///
    /// Any client can call them, so a client can send any number of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).exempt_grpc_reflection().build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt_grpc_reflection(mut self) -> Self {
        self.exemptions.grpc_reflection = true;
        self
    }

    /// Limits only requests with these methods, and exempts all others. GET includes HEAD.
    ///
    /// Each call adds methods.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Method;
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("5/min".parse()?).methods([Method::POST]).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.exemptions.methods.get_or_insert_default().extend(methods);
        self
    }

    /// Sets whether CORS preflights are exempt; the default is no.
    ///
    /// A preflight is an OPTIONS request with `Origin` and `Access-Control-Request-Method`. Prefer a CORS layer
    /// outside this one: it responds to preflights itself, and lets pages read refusals. Any client can send
    /// preflights, so exempt them only if they are cheap. See [`EXPOSED_HEADERS`](crate::response::EXPOSED_HEADERS).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).exempt_preflight(true).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn exempt_preflight(mut self, exempt: bool) -> Self {
        self.exemptions.preflight = exempt;
        self
    }

    /// Sets whether the layer limits requests; the default is yes.
    ///
    /// With `false`, every request is admitted, also one that a deny list names, but `build` still reports every mistake in the configuration. Use this
    /// to enable or disable a limit by configuration. `tower::util::option_layer` does not compile in its place,
    /// because it needs the same response body with and without the layer. `axum_extra::middleware::option_layer`
    /// compiles.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let is_limited = std::env::var_os("RATE_LIMIT_OFF").is_none();
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).enabled(is_limited).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.exemptions.is_off = !enabled;
        self
    }
}

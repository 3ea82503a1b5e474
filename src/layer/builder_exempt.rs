//! The builder's setters for requests that a layer does not limit.

use std::sync::Arc;

use http::Method;

use super::builder::RateLimitLayerBuilder;
use crate::key::RequestView;

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
    ///     .exempt(|req| req.uri().path().starts_with("/grpc.health.v1.Health/"))
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
    /// With `false`, every request is admitted, but `build` still reports every mistake in the configuration. Use this
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

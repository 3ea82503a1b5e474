//! Which requests a layer leaves alone.
//!
//! An exempt request passes before its key is read. It costs nothing, and its response carries no fields.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::RateLimitLayerBuilder;
use crate::error::{ConfigError, shortened};
use crate::key::RequestView;
use crate::response;

type Predicate = dyn Fn(&RequestView<'_>) -> bool + Send + Sync;

/// The exemptions of one layer, as they were configured.
#[derive(Clone, Default)]
pub(super) struct Exemptions {
    is_off: bool,
    preflight: bool,
    paths: Vec<String>,
    /// The methods that are limited, if only some are.
    methods: Option<Vec<Method>>,
    predicates: Vec<Arc<Predicate>>,
}

impl Exemptions {
    /// Checks the paths and methods, and returns the predicates, all of which are or-ed.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidExemptPath`] or [`ConfigError::NoMethod`].
    pub(super) fn build(self) -> Result<Exempt, ConfigError> {
        let Self { is_off, preflight, paths, methods, mut predicates } = self;
        if let Some(path) = paths.iter().find(|path| !is_plain_path(path)) {
            return Err(ConfigError::InvalidExemptPath(shortened(path)));
        }
        if !paths.is_empty() {
            predicates.push(Arc::new(move |request| paths.iter().any(|path| path == request.uri().path())));
        }
        if let Some(methods) = methods {
            if methods.is_empty() {
                return Err(ConfigError::NoMethod);
            }
            predicates.push(Arc::new(move |request| !is_listed(&methods, request.method())));
        }
        if preflight {
            predicates.push(Arc::new(|request| response::is_preflight(request.method(), request.headers())));
        }
        if is_off {
            predicates = vec![Arc::new(|_| true)];
        }
        Ok(Exempt(predicates.into()))
    }
}

/// Servers route HEAD as GET, so a limit on GET is one on HEAD too.
fn is_listed(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}

/// A path is compared byte by byte, so a pattern, a query or a missing slash would never match.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| !matches!(byte, b'*' | b'{' | b'}' | b'?' | b'#' | b' '))
}

/// The exemptions of one layer, ready for requests.
pub(super) struct Exempt(Box<[Arc<Predicate>]>);

impl Exempt {
    #[inline]
    pub(super) fn covers(&self, request: &RequestView<'_>) -> bool {
        self.0.iter().any(|is_exempt| is_exempt(request))
    }
}

impl fmt::Debug for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt").field("predicates", &self.0.len()).finish()
    }
}

impl RateLimitLayerBuilder {
    /// Exempts the requests for which the function returns true; they pass without a key and without a charge.
    ///
    /// Each call adds a case. Use this for health checks and internal callers, and not
    /// [`OnMissingKey::Allow`](super::OnMissingKey::Allow), which also admits a client whose key is missing by
    /// mistake. Decide by what a client cannot choose: anybody can send a header.
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
    /// A path is compared byte by byte, without the query. A router that is nested at `/api` sees `/health` in
    /// place of `/api/health`.
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

    /// Limits only requests with these methods, and exempts all others; GET includes HEAD.
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

    /// Sets whether CORS preflights pass without a limit; default no.
    ///
    /// A preflight is OPTIONS with `Origin` and `Access-Control-Request-Method`. Better is a CORS layer around
    /// this one: it answers preflights itself, and lets pages read refusals. Anyone can send preflights, so
    /// exempt them only where they are cheap. See [`EXPOSED_HEADERS`](crate::EXPOSED_HEADERS).
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

    /// Sets whether the layer limits at all; default yes.
    ///
    /// With `false` every request passes, and `build` still reports every mistake in the configuration. Use this to
    /// switch a limit on or off by configuration. `tower::util::option_layer` does not compile in its place, because
    /// it needs the same response body with and without the layer. `axum_extra::middleware::option_layer` compiles.
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

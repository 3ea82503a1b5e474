//! The requests that a layer does not limit.
//!
//! An exempt request is admitted before its key is read. It is not charged, and its response has no fields.

use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::error::{ConfigError, shortened};
use crate::key::RequestView;
use crate::response;

type Predicate = dyn Fn(&RequestView<'_>) -> bool + Send + Sync;

/// The configured exemptions of one layer.
#[derive(Clone, Default)]
pub(super) struct Exemptions {
    pub(super) is_off: bool,
    pub(super) preflight: bool,
    pub(super) paths: Vec<String>,
    /// The methods that are limited, or `None` for all.
    pub(super) methods: Option<Vec<Method>>,
    pub(super) predicates: Vec<Arc<Predicate>>,
}

impl Exemptions {
    /// Checks the paths and the methods. Returns the predicates; a request is exempt if one of them is true.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidExemptPath`] or [`ConfigError::NoMethod`].
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

/// Servers route HEAD as GET, so a limit on GET also limits HEAD.
fn is_listed(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}

/// Checks that a path can match.
///
/// Paths are compared byte by byte, so a pattern, a query or a missing leading slash never matches.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| !matches!(byte, b'*' | b'{' | b'}' | b'?' | b'#' | b' '))
}

/// The exemptions of one layer, prepared for requests.
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

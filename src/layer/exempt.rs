//! The requests that a layer does not limit.
//!
//! An exempt request is admitted before its key is read. It is not charged, and its response has no fields.

use std::sync::Arc;

use http::Method;

use super::rules::Predicate;
use crate::error::{ConfigError, shortened};
use crate::key::{ClientIp, KeyExtractor, Networks};
use crate::response;

/// The configured exemptions of one layer.
#[derive(Clone, Default)]
pub(super) struct Exemptions {
    pub(super) is_off: bool,
    pub(super) preflight: bool,
    pub(super) paths: Vec<String>,
    /// The methods that are limited, or `None` for all.
    pub(super) methods: Option<Vec<Method>>,
    pub(super) predicates: Vec<Arc<Predicate>>,
    /// The first invalid list of networks, which `build` returns.
    pub(super) invalid: Option<ConfigError>,
}

impl Exemptions {
    pub(super) fn add_networks(&mut self, ip: ClientIp, networks: Result<Networks, ConfigError>) {
        let networks = networks.and_then(|networks| match networks.everything() {
            Some(all) => Err(ConfigError::ExemptsEveryone(all.to_owned())),
            None => Ok(networks),
        });
        match ip.check().and(networks) {
            Ok(networks) => self.predicates.push(Arc::new(move |request| ip.is_exempt(&networks, request))),
            Err(error) => drop(self.invalid.get_or_insert(error)),
        }
    }

    /// Adds a gRPC service, such as `grpc.health.v1.Health`, with all its methods.
    pub(super) fn add_service(&mut self, name: &'static str) {
        self.predicates.push(Arc::new(move |request| is_method_of(name, request.uri().path())));
    }

    /// Checks the paths and the methods. Returns the predicates; a request is exempt if one of them is true.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidExemptPath`], [`ConfigError::NoMethod`], or the error of a list of networks.
    pub(super) fn build(self) -> Result<Vec<Arc<Predicate>>, ConfigError> {
        let Self { is_off, preflight, paths, methods, mut predicates, invalid } = self;
        if let Some(error) = invalid {
            return Err(error);
        }
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
        Ok(predicates)
    }
}

/// Servers route HEAD as GET, so a limit on GET also limits HEAD.
fn is_listed(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}

/// Whether a path is `/service/method`, with a method that is not empty and contains no slash.
fn is_method_of(service: &str, path: &str) -> bool {
    let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(service)?.strip_prefix('/'));
    method.is_some_and(|method| !method.is_empty() && !method.contains('/'))
}

/// Checks that a path can match.
///
/// Paths are compared byte by byte, so a pattern, a query or a missing leading slash never matches.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| !matches!(byte, b'*' | b'{' | b'}' | b'?' | b'#' | b' '))
}
